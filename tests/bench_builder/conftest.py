"""Fixtures of the package: random checkpoints, a small benchmark and its build. Torch uses one thread."""

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
    """Folder of the benchmark's stills; skips without it."""
    if not STILLS.is_dir():
        pytest.skip(NO_STILLS)
    return STILLS


@pytest.fixture(scope="session")
def a14b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with two experts."""
    from tests.bench_builder.tiny_wan import write_a14b

    return write_a14b(tmp_path_factory.mktemp("wan") / "a14b")


@pytest.fixture(scope="session")
def ti2v_5b(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A random checkpoint with one network."""
    from tests.bench_builder.tiny_wan import write_ti2v_5b

    return write_ti2v_5b(tmp_path_factory.mktemp("wan") / "ti2v_5b")


@pytest.fixture(scope="session")
def world(tmp_path_factory: pytest.TempPathFactory, a14b: Path) -> World:
    """Four drawn stills, and everything needed to build their videos."""
    from tests.bench_builder.world import World

    return World(tmp_path_factory.mktemp("world"), a14b)


@pytest.fixture(scope="session")
def built(world: World, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A build of the first three stills, made in this process. Read only."""
    from tests.bench_builder.world import build_here

    output = tmp_path_factory.mktemp("built") / "bench"
    with pytest.MonkeyPatch.context() as patch:
        build_here(world.config(output), patch)
    return output
