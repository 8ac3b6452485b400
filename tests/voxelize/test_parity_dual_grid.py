"""Geometry agrees with the official converter: same voxels and flags, dual vertices within float32 rounding."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from safetensors import safe_open

from helix4d.voxelize import dual_grid
from helix4d.voxelize.convert import cpu
from helix4d.voxelize.ovoxel import morton_codes
from tests.conftest import NO_PARITY, PARITY, files
from tests.voxelize.reference_minima import exact_energy, minima, rounded_energy

FOLDERS = (PARITY, PARITY.parent / "cases")
FIXTURES = [path for folder in FOLDERS for path in files(folder / "ovoxel", "dual_grid_*.safetensors")]
_ERRORS: dict[str, np.ndarray] = {}
_LAST_BIT = 2.0**-22
"""The last bit of an official energy's terms between 2 and 4, in units of the cube. Differences below it, or below the
last bit of larger terms, are rounding; docs/evidence/voxelizer.md has the measurement."""


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_voxels(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quadrics: list[np.ndarray] = []
    monkeypatch.setattr(cpu, "_emitted", _watched(cpu._emitted, quadrics))
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
        rows, official = quadrics[-1][ours], tensors[f"dual_vertices_{resolution}"][theirs]
        a, b = _quadratics(rows, weights["regularization_weight"])
        energy = exact_energy(a, b)
        found, wanted = (dual.astype(np.float64) - 0.5 for dual in (grid.dual_vertices[ours], official))
        excess = energy(wanted) - energy(found)
        assert excess.min() > -1e-5, "a dual vertex is not the minimum"
        far = error.max(axis=1) > 0.05
        noise = _last_bits(a, (grid.coords[ours] + official) / resolution)
        alike = ~far | (excess / resolution**2 <= noise)
        assert alike.mean() >= 0.998, f"{alike.mean():.5f} near, or as good to float32"
        if resolution <= 128:
            assert np.abs(minima(a, b, energy) - found).max() <= 1e-3
            moved = minima(a, b, rounded_energy(a, b, grid.coords[ours], resolution))
            rounded = np.abs(moved - found).max(axis=1) > 0.05
            most = 0.002 * len(far) + 1.5 * rounded.sum()
            assert far.sum() <= most, f"{far.sum()} differ, {rounded.sum()} by one rounding alone"
        _ERRORS[f"{path.stem}_{resolution}"] = error


def test_dual_vertices() -> None:
    """The quantile is taken over all fixtures.

    At 256^3 the official float32 energies cannot tell two nearly equal minima on different faces of a voxel apart, so
    that up to 1.2 % of the voxels of one coarse mesh sit on the other face, at random, with an energy that exceeds the
    minimum by less than the energy's last bits.
    """
    if not _ERRORS:
        pytest.skip(NO_PARITY)
    worst = np.concatenate(list(_ERRORS.values())).max(axis=1)
    assert (worst <= 0.05).mean() >= 0.995
    for name, error in _ERRORS.items():
        assert (error.max(axis=1) <= 0.05).mean() >= 0.985, name


def _watched(emitted: Callable[..., object], quadrics: list[np.ndarray]) -> Callable[..., object]:
    """`cpu._emitted` that keeps the quadric of each voxel, (N, 12) in Morton order."""

    def watching(resolution: int, weights: object, store: cpu._Store) -> object:
        slots = store.table[store.top[store.top > 0]].ravel()
        rows = store.sums[slots[slots > 0]].astype(np.float64)
        quadrics.append(rows[rows[:, 3] > 0])
        return emitted(resolution, weights, store)

    return watching


def _quadratics(rows: np.ndarray, regularization: float) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3, 3) A and (N, 3) b of xᵀAx - 2bᵀx, which dual vertices minimize, in voxels from their centers."""
    a = rows[:, [4, 5, 6, 5, 7, 8, 6, 8, 9]].reshape(-1, 3, 3)
    return a + regularization * rows[:, 3, None, None] * np.eye(3), rows[:, :3]


def _last_bits(a: np.ndarray, points: np.ndarray) -> np.ndarray:
    """(N,) the last bit of an official energy, in units of the cube, at (N, 3) points in [0, 1]^3."""
    terms = np.einsum("ni,nij,nj->n", points, a, points).astype(np.float32)
    return np.maximum(_LAST_BIT, np.spacing(terms).astype(np.float64))
