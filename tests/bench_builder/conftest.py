"""One thread, and one random checkpoint of each kind for all tests of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if any(importlib.util.find_spec(name) is None for name in ("torch", "diffusers", "rembg")):
    collect_ignore_glob = ["test_wan.py", "test_build.py", "test_verify.py"]
else:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def a14b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two experts."""
    from tests.bench_builder.tiny_wan import write_a14b

    return write_a14b(tmp_path_factory.mktemp("wan") / "a14b")


@pytest.fixture(scope="session")
def ti2v_5b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One network."""
    from tests.bench_builder.tiny_wan import write_ti2v_5b

    return write_ti2v_5b(tmp_path_factory.mktemp("wan") / "ti2v_5b")
