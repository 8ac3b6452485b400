"""Set-up of the network tests: one thread, as the machine is shared, and no collection if torch is not installed."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

_TORCH = importlib.util.find_spec("torch") is not None
if _TORCH:
    import torch
else:
    collect_ignore_glob = ["test_*.py"]


def pytest_report_header() -> str | None:
    """Report why the network tests are skipped."""
    return None if _TORCH else "tests/model: skipped, torch is not installed (pip install -e .[model])"


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Compute with one thread, even after another library of the same OpenMP has set a number (numba, for matting)."""
    torch.set_num_threads(1)


@dataclass(frozen=True)
class Fixture:
    """Contents of a parity file: configuration and tensors by role."""

    config: dict[str, Any]
    weights: dict[str, Any]
    inputs: dict[str, Any]
    outputs: dict[str, Any]

    @property
    def kind(self) -> str:
        """Kind of network, derived from the tensors instead of the file name, so that other files work too."""
        if "noise" in self.inputs:
            return "sampler"
        if "t" in self.inputs:
            return "dense_flow" if "x" in self.inputs else "sparse_flow"
        if "occupancy" in self.inputs:
            return "dense_encoder"
        if "logits" in self.outputs:
            return "dense_decoder"
        return "sparse_encoder" if "mean" in self.outputs else "sparse_decoder"


def read_fixture(path: Path) -> Fixture:
    """Read a parity file."""
    from safetensors import safe_open
    from safetensors.torch import load_file

    with safe_open(path, "pt") as stored:
        config = json.loads(stored.metadata()["config"])
    roles: dict[str, dict[str, Any]] = {"weights": {}, "inputs": {}, "outputs": {}}
    for name, tensor in load_file(path).items():
        role, _, rest = name.partition(".")
        roles[role][rest] = tensor
    return Fixture(config, **roles)


@pytest.fixture(scope="session")
def parity_file() -> Callable[[Path], Fixture]:
    """Function that reads a parity file."""
    return read_fixture


@pytest.fixture(scope="session")
def relative_error() -> Callable[[Any, Any], float]:
    """Function that returns max|a − b| / max|b|."""
    return lambda a, b: float((a - b).abs().max() / b.abs().max())


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Folder with tiny random networks, both base and fine-tuned."""
    from tests.model.tiny_networks import write_networks

    return write_networks(tmp_path_factory.mktemp("tiny"))
