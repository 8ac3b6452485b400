"""Set-up of the package's tests: one thread, and one small world shared by all tests."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest

if importlib.util.find_spec("torch") is None:
    collect_ignore_glob = ["test_*.py"]
else:
    import torch

    from helix4d.train.latents.encode import EncodeConfig, encode
    from helix4d.train.latents.jobs import LatentConfig
    from tests.train import world

NAMES = ["flag", "butterfly", "ladybug", "caterpillar", "sprout"]


@pytest.fixture(scope="module", autouse=True)
def _one_thread() -> None:
    """Compute with one thread, even after another library of the same OpenMP has set a number (numba, for matting)."""
    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Five clips in three curation shards; the last frame of the first clip is empty."""
    return world.write_shards(tmp_path_factory.mktemp("shards"), NAMES, empty_frame=True)


@pytest.fixture(scope="session")
def models(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Random encoders and decoders."""
    return world.write_models(tmp_path_factory.mktemp("models"))


@pytest.fixture(scope="session")
def latents(shards: Path, models: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Latents of these shards, from one uninterrupted run of `encode` without Ray."""
    output = tmp_path_factory.mktemp("latents")
    encode(EncodeConfig(shards, output, str(models), latents=LatentConfig(occupancy_resolution=8), serial=True))
    return output
