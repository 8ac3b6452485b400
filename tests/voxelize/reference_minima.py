"""Constrained minima of quadratics in a voxel, by trying every face, edge and corner, with exact or rounded energies.

Official energies are pᵀQp in float32, where points and the 4x4 quadrics Q are in units of the cube.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator

import numpy as np


def minima(a: np.ndarray, b: np.ndarray, energy: Callable[[np.ndarray], np.ndarray]) -> np.ndarray:
    """(N, 3) minima of xᵀAx - 2bᵀx in [-0.5, 0.5]^3: free ones where they are inside, else the best of all others.

    Args:
        a, b: (N, 3, 3) and (N, 3) float64.
        energy: compares candidates (N, 3) of a voxel; equal ones are taken in the order of faces, edges and corners.
    """
    tried = sorted(_candidates(a, b), key=lambda candidate: candidate[0])
    _, best, free = tried[0]
    least = np.full(len(a), np.inf)
    for _, points, inside in tried[1:]:
        found = energy(points)
        better = inside & ~free & (found < least)
        best[better], least[better] = points[better], found[better]
    return best


def exact_energy(a: np.ndarray, b: np.ndarray) -> Callable[[np.ndarray], np.ndarray]:
    """Energies in float64, up to a constant."""
    return lambda points: np.einsum("ni,nij,nj->n", points, a, points) - 2 * (b * points).sum(axis=1)


def rounded_energy(
    a: np.ndarray, b: np.ndarray, coords: np.ndarray, resolution: int
) -> Callable[[np.ndarray], np.ndarray]:
    """Energies as officially, of quadrics whose minimum is zero: rounded once to float32, then pᵀQp in float32."""
    centers = coords + 0.5
    exact = exact_energy(a, b)
    quadrics = np.zeros((len(a), 4, 4))
    quadrics[:, :3, :3] = a
    quadrics[:, :3, 3] = quadrics[:, 3, :3] = -(np.einsum("nij,nj->ni", a, centers) + b) / resolution
    constant = exact(-centers) - exact(minima(a, b, exact))
    quadrics[:, 3, 3] = constant / resolution**2
    rounded = quadrics.astype(np.float32)

    def energy(points: np.ndarray) -> np.ndarray:
        places = np.concatenate([(points + centers) / resolution, np.ones((len(points), 1))], axis=1).astype(np.float32)
        total = np.zeros(len(points), np.float32)
        for i, j in itertools.product(range(4), range(4)):
            total = total + rounded[:, i, j] * places[:, i] * places[:, j]
        return total

    return energy


def _candidates(a: np.ndarray, b: np.ndarray) -> Iterator[tuple[int, np.ndarray, np.ndarray]]:
    """For each choice of coordinates on the voxel's boundary: their number, minima (N, 3), whether these are inside."""
    for fixed in itertools.product((None, -0.5, 0.5), repeat=3):
        free = [axis for axis in range(3) if fixed[axis] is None]
        points = np.tile([0.0 if value is None else value for value in fixed], (len(a), 1))
        if free:
            right = b[:, free] - np.einsum("nij,nj->ni", a[:, free], points)
            points[:, free] = np.linalg.solve(a[:, free][:, :, free], right[..., None])[..., 0]
        yield 3 - len(free), points, (np.abs(points) <= 0.5).all(axis=1)
