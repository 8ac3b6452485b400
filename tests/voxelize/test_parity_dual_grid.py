"""Geometry agrees with the official converter's: the same voxels and flags, dual vertices within float32 noise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from tests.conftest import PARITY, files
from voxelize import dual_grid
from voxelize.ovoxel import morton_codes

FIXTURES = files(PARITY / "ovoxel", "dual_grid_*.safetensors")
_ERRORS: dict[str, np.ndarray] = {}


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_voxels(path: Path) -> None:
    with safe_open(str(path), "numpy") as reader:
        tensors = {name: reader.get_tensor(name) for name in reader.keys()}  # noqa: SIM118 (not a dict)
        weights = {
            f"{name}_weight": float(reader.metadata()[f"{name}_weight"])
            for name in ("face", "boundary", "regularization")
        }
    for resolution in sorted(int(name.split("_")[1]) for name in tensors if name.startswith("coords_")):
        grid = dual_grid(tensors["vertices"], tensors["faces"], resolution, weld=False, **weights)
        expected = tensors[f"coords_{resolution}"].astype(np.int32)
        _, ours, theirs = np.intersect1d(morton_codes(grid.coords), morton_codes(expected), return_indices=True)
        allowed = len(expected) / 20000
        assert len(grid.coords) + len(expected) - 2 * len(ours) <= allowed
        flags = tensors[f"intersected_{resolution}"][theirs] != 0
        assert (grid.intersected[ours] != flags).any(axis=1).sum() <= allowed
        error = np.abs(grid.dual_vertices[ours] - tensors[f"dual_vertices_{resolution}"][theirs])
        assert error.mean() <= 0.004
        _ERRORS[f"{path.stem}_{resolution}"] = error


def test_dual_vertices() -> None:
    """The quantile is taken over all fixtures.

    At 256^3 the official float32 energies cannot tell two nearly equal minima on different faces of a voxel apart, so
    that up to 1.2 % of the voxels of one coarse mesh sit on the other face, at random, with an energy that exceeds the
    minimum by less than the energy's last bits.
    """
    if not _ERRORS:
        pytest.skip(f"no dual_grid_* fixtures in {PARITY / 'ovoxel'}: set HELIX4D_PARITY_DIR")
    worst = np.concatenate(list(_ERRORS.values())).max(axis=1)
    assert (worst <= 0.05).mean() >= 0.995
    for name, error in _ERRORS.items():
        assert (error.max(axis=1) <= 0.05).mean() >= 0.985, name
