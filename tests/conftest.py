"""Locates the shared fixtures, and skips tests whose fixtures or hardware are not available."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest

_REPOSITORY = Path(__file__).resolve().parent.parent


def _folder(variable: str, default: str) -> Path:
    return Path(os.environ.get(variable, _REPOSITORY / default)).resolve()


# Optional folders outside the repository, each named by an environment variable: results of other implementations, real
# assets, the stills of Helix4DBench. Without them the tests check numbers against tests/data/ alone.
PARITY = _folder("HELIX4D_PARITY_DIR", "../shared/parity")
NO_PARITY = f"optional results of other implementations: HELIX4D_PARITY_DIR names no folder of them ({PARITY})"

ASSETS = _folder("HELIX4D_ASSETS_DIR", "../shared/assets")
NO_ASSETS = f"optional real assets: HELIX4D_ASSETS_DIR names no folder of them ({ASSETS})"

STILLS = _folder("HELIX4D_STILLS_DIR", "../shared/bench_stills")
NO_STILLS = f"optional stills of the benchmark: HELIX4D_STILLS_DIR names no folder of them ({STILLS})"

CASES = _folder("HELIX4D_CASES_DIR", "../shared/cases")
NO_CASES = f"optional files that were once read wrongly: HELIX4D_CASES_DIR names no folder of them ({CASES})"


def files(folder: Path, pattern: str) -> list[Path]:
    """List the files of a folder, sorted, for parametrizing tests; empty if the folder is absent."""
    return sorted(folder.glob(pattern)) if folder.is_dir() else []


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Skip tests that need a GPU if there is none."""
    marked = [item for item in items if item.get_closest_marker("gpu")]
    if not marked:
        return
    import torch

    if not torch.cuda.is_available():
        for item in marked:
            item.add_marker(pytest.mark.skip(reason="needs a CUDA GPU"))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Distribute the tests over the processes of `-n`."""
    from tests.processes import Scheduling

    return Scheduling(config, log)


@pytest.fixture(scope="session")
def animated_assets() -> Path:
    """Folder of real animated assets."""
    folder = ASSETS / "animated"
    if not folder.is_dir():
        pytest.skip(f"no assets in {folder}: set HELIX4D_ASSETS_DIR")
    return folder


@pytest.fixture(scope="session")
def hostile_assets() -> Path:
    """Folder of hostile assets."""
    folder = ASSETS / "hostile"
    if not folder.is_dir():
        pytest.skip(f"no assets in {folder}: set HELIX4D_ASSETS_DIR")
    return folder
