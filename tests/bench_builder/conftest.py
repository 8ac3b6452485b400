"""One thread, and one random checkpoint of each kind for all tests of the package."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import TYPE_CHECKING

import pytest

from tests.conftest import NO_STILLS, STILLS

if TYPE_CHECKING:
    from tests.bench_builder.world import World

if any(importlib.util.find_spec(name) is None for name in ("torch", "diffusers", "rembg")):
    collect_ignore_glob = ["test_wan.py", "test_build.py", "test_verify.py"]
else:
    import torch

    torch.set_num_threads(1)


@pytest.fixture(scope="session")
def stills() -> Path:
    """The folder of the benchmark's stills, where there is one."""
    if not STILLS.is_dir():
        pytest.skip(NO_STILLS)
    return STILLS


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


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, a14b: Path) -> World:
    """Four drawn stills and what it takes to build their videos."""
    from tests.bench_builder.world import World

    return World(tmp_path_factory.mktemp("world"), a14b)


@pytest.fixture(scope="session")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first three of them, built in this process. Not to be changed."""
    from tests.bench_builder.world import build_here

    output = tmp_path_factory.mktemp("built") / "bench"
    with pytest.MonkeyPatch.context() as patch:
        build_here(world.config(output), patch)
    return output
