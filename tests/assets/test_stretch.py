"""Deformations that distort a mesh, and those that only look like it."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets.stretch import StretchCheck, stretched_edges


def grid(side: int = 12) -> np.ndarray:
    """Return the (F, 3, 3) triangles of a bent sheet of side × side squares of length 1."""
    x, y = np.meshgrid(np.arange(side + 1.0), np.arange(side + 1.0))
    points = np.stack([x, y, 0.05 * x**2], axis=-1).reshape(-1, 3)
    return points[_faces(side)]


def _faces(side: int) -> np.ndarray:
    corner = (np.arange(side)[:, None] * (side + 1) + np.arange(side)).reshape(-1, 1)
    return np.concatenate([corner + [0, 1, side + 2], corner + [0, side + 2, side + 1]]).reshape(-1, 3)


def moved(triangles: np.ndarray, point: np.ndarray, to: np.ndarray) -> np.ndarray:
    """Return triangles with one point moved."""
    result = triangles.copy()
    result[(triangles == point).all(axis=2)] = to
    return result


def test_a_point_that_flies_away_stretches_its_edges() -> None:
    rest = grid()
    point = rest[len(rest) // 4, 0]
    uses = int((rest == point).all(axis=2).sum())
    assert stretched_edges(rest, moved(rest, point, point + [0, 0, 30])) == 2 * uses
    # Whatever the scale and rotation of the rest of the mesh.
    turn = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    assert stretched_edges(rest, moved(rest, point, point + [0, 0, 30]) @ turn * 100) == 2 * uses
    assert stretched_edges(rest, moved(rest, point, point + [0, 0, 5])) == 0


@pytest.mark.parametrize("scale", [(50, 50, 50), (1, 1, 40), (0.001, 0.001, 0.001), (30, 1, 1), (1, 1, 0)])
def test_a_mesh_that_is_scaled_as_a_whole_is_not_distorted(scale: tuple[float, ...]) -> None:
    rest = grid()
    assert stretched_edges(rest, rest * scale + [5, 6, 7]) == 0


def test_a_limb_that_grows_and_a_lid_that_opens_are_not_distorted() -> None:
    rest = grid()
    limb = rest.copy()
    limb[..., 0] += 4 * np.maximum(rest[..., 0] - 8, 0)  # five times as long
    assert stretched_edges(rest, limb) == 0
    lid = rest.copy()
    lid[..., 1] = np.where(rest[..., 1] == 5, 4.001, rest[..., 1])  # a fold of 1 mm
    assert stretched_edges(lid, np.where(rest == 5, 4.3, rest) * [0, 1, 0] + rest * [1, 0, 1]) == 0


@pytest.mark.parametrize("scale", [0.0, 1e-6, 0.002, 30.0])
def test_parts_that_are_scaled_by_themselves_are_not_distorted(scale: float) -> None:
    """Most of a mesh is hidden, or grows, while the rest keeps its size."""
    rest = np.concatenate([grid(), grid(6) + 50])
    posed = rest.copy()
    posed[: 2 * 12 * 12] *= scale
    assert stretched_edges(rest, posed) == 0


def test_a_skin_of_two_poses_is_distorted_at_the_seam() -> None:
    """Half of the points follow a bone whose bind pose is wrong by 200 m."""
    rest = grid()
    posed = rest.copy()
    posed[rest[..., 0] > 6] += [0, 200, 0]
    assert stretched_edges(rest, posed) > 20


def test_the_warning_counts_edges_and_frames() -> None:
    rest = grid()
    spread = moved(rest, rest[40, 0], rest[40, 0] + [0, 0, 30])
    check = StretchCheck()
    for posed in (rest, spread, spread):
        check.add([(rest, rest), (rest, posed)])
    (warning,) = check.warnings()
    assert f"{stretched_edges(rest, spread)} of {6 * len(rest):,} edges" in warning
    assert "frames affected: 2" in warning
    calm = StretchCheck()
    calm.add([(rest, rest)])
    assert not calm.warnings()


def test_what_is_not_finite_or_empty_is_left_to_other_checks() -> None:
    rest = grid()
    broken = rest.copy()
    broken[0, 0, 0] = np.nan
    assert stretched_edges(rest, broken) == 0
    assert stretched_edges(np.zeros((0, 3, 3)), np.zeros((0, 3, 3))) == 0
    assert stretched_edges(rest * 0, rest) == 0
