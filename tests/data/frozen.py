"""Frozen results: outputs of this project's own code, kept in `tests/data/` so that everybody's tests check numbers.

A recipe (`recipes/`) computes results from inputs that it makes itself; `make_fixtures.py` froze them, and the tests
`test_frozen_*.py` compute them again and compare within a stated tolerance.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
from safetensors.numpy import load_file, save_file

FOLDER = Path(__file__).parent
VXZ = FOLDER / "vxz"


def load(name: str) -> dict[str, np.ndarray]:
    """The frozen arrays of a recipe, by name."""
    return load_file(FOLDER / f"{name}.safetensors")


def save(name: str, arrays: Mapping[str, np.ndarray]) -> None:
    """Freeze the arrays of a recipe."""
    save_file({key: np.ascontiguousarray(array) for key, array in arrays.items()}, FOLDER / f"{name}.safetensors")


def group(arrays: Mapping[str, np.ndarray], prefix: str) -> dict[str, np.ndarray]:
    """The arrays named `prefix.NAME`, by NAME."""
    return {key.removeprefix(f"{prefix}."): array for key, array in arrays.items() if key.startswith(f"{prefix}.")}


def relative_error(found: np.ndarray, frozen: np.ndarray) -> float:
    """max|a - b| / max|b|."""
    return float(np.abs(found - frozen).max() / np.abs(frozen).max())
