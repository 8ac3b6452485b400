"""Moves coplanar overlapping faces apart, by an invisible distance.

A ray that leaves one of two such faces hits the other at once, so a path tracer shades each with the other's shadow:
dark noise, or black triangles. They are common in files: faces modeled twice for their two sides, overlapping parts.
Each face moves along its own normal, so of two faces with opposite normals each is visible from its own side.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d.assets import Frame
from helix4d.render.cycles.coplanar_kernels import color_levels, find_pairs

STEP = 1e-5
"""Distance between levels in units of the clip's cube: a hundredth of a pixel, a hundred float32 rounding errors."""
_LEVELS = 16
_MOST_FRAMES = 4
_FINEST = 16
"""Number of halvings of the extent down to the finest grid."""
_BORDER = 1e-6
"""Tolerance for rounding of a point on the border of two cells, in cells."""
_POINTS = np.array([[1, 1, 1], [2, 0.5, 0.5], [0.5, 2, 0.5], [0.5, 0.5, 2]]) / 3
"""Barycentrics of the tested points; centers alone can lie on the diagonal of a square that is split otherwise."""


def find_levels(frames: Sequence[Frame]) -> np.ndarray:
    """Number of steps by which each face has to move, (F,) int32; 0 for a face that overlaps no other.

    Args:
        frames: frames of one topology. Two faces overlap if, in one of four of these frames, one of four points of one
            face lies on the other.
    """
    faces = frames[0].faces
    codes = [np.empty(0, np.int64)]
    for number in sorted(set(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))):
        triangles = frames[number].vertices[faces].astype(np.float64)
        pairs = _pairs(triangles, _normals(triangles))
        codes.append(np.unique(pairs[:, 1].astype(np.int64) * len(faces) + pairs[:, 0]))
    code = np.unique(np.concatenate(codes))
    sorted_pairs = np.stack([code % max(len(faces), 1), code // max(len(faces), 1)], axis=1).astype(np.int32)
    return np.asarray(color_levels(sorted_pairs, len(faces), _LEVELS))


def moved_corners(frame: Frame, levels: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """New corners of the M faces with a level above 0, and their normals: both (3 M, 3) float32."""
    faces = frame.faces[levels > 0]
    triangles = frame.vertices[faces].astype(np.float64)
    steps = _normals(triangles) * (STEP * levels[levels > 0])[:, None]
    return (triangles + steps[:, None]).astype(np.float32).reshape(-1, 3), frame.normals[faces].reshape(-1, 3)


def _normals(triangles: np.ndarray) -> np.ndarray:
    """(F, 3) float64 unit normals, 0 for a triangle without area."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    return np.asarray(normals / np.maximum(np.sqrt(np.einsum("ij,ij->i", normals, normals)), 1e-300)[:, None])


def _pairs(triangles: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """(P, 2) int32 overlapping faces, found through a hierarchy of grids, each twice as fine as the previous one.

    A face is stored in the cells (at most eight) that it touches in the finest grid whose cells are not smaller than
    the face. A point is looked up in its cell of every grid.
    """
    low, high = triangles.min(axis=1), triangles.max(axis=1)
    shown = np.flatnonzero(normals.any(axis=1))
    if len(shown) < 2:
        return np.empty((0, 2), np.int32)
    corner = low[shown].min(axis=0)
    extent = float((high[shown].max(axis=0) - corner).max())
    size = (high - low).max(axis=1)[shown] / extent
    level = np.clip(np.floor(-np.log2(np.maximum(size, 2.0**-_FINEST))), 0, _FINEST).astype(np.int64)
    scale = (2.0**level / extent)[:, None]
    first_cell = np.floor((low[shown] - corner) * scale - _BORDER).astype(np.int64)
    last_cell = np.floor((high[shown] - corner) * scale + _BORDER).astype(np.int64)
    keys, owners = [], []
    for step in np.ndindex(2, 2, 2):
        cell = first_cell + np.array(step)
        touched = (cell <= last_cell).all(axis=1)
        keys.append(_key(level[touched], cell[touched]))
        owners.append(shown[touched])
    key = np.concatenate(keys)
    order = np.argsort(key, kind="stable")
    key, entries = key[order], np.concatenate(owners)[order].astype(np.int32)
    grids = np.unique(level)
    points, owners_of_points = (_POINTS @ triangles[shown]).reshape(-1, 3), np.repeat(shown, len(_POINTS))
    pairs = []
    for grid in grids:
        cell = np.floor((points - corner) * (2.0**grid / extent)).astype(np.int64)
        wanted = _key(np.full(len(points), grid), cell)
        first, last = np.searchsorted(key, wanted, "left"), np.searchsorted(key, wanted, "right")
        pairs.append(find_pairs(points, owners_of_points, triangles, normals, first, last, entries))
    return np.concatenate(pairs)


def _key(level: np.ndarray, cell: np.ndarray) -> np.ndarray:
    """One integer for a grid level and a cell."""
    bits = _FINEST + 3
    shifted = cell + 1  # the tolerance may give -1
    return np.asarray(((level << bits | shifted[:, 0]) << bits | shifted[:, 1]) << bits | shifted[:, 2])
