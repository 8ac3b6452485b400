"""Measures how much surface appears or vanishes between consecutive frames, in clips whose topology changes."""

from __future__ import annotations

import numpy as np

from helix4d.assets import Clip, Frame
from helix4d.assets.triangles import areas
from helix4d.curation.filters.surface_kernels import count_samples, sample_points

_CELLS = 16
"""Cells per side. Surface persists if the other frame has surface in the same or an adjacent cell."""
_MOST_PARTS = 64
_GONE = 0.01
"""A triangle vanishes if it shrinks to less than this share of its area, and appears if it grows from less."""


def flicker(clip: Clip) -> float:
    """Return the share of surface that appears or vanishes between consecutive frames, averaged over the pairs.

    A triangle that both frames show has merely moved, however far. Other triangles (collapsed in one of the frames, or
    numbered differently) count where the other frame has no surface within a cell of 1/16: replacing a mesh by a
    similar one does not flicker, blinking does. A clip that blinks as a whole in every frame scores 1, an object that
    appears once in 16 frames 1/15.
    """
    pairs = list(zip(clip.frames, clip.frames[1:], strict=False))
    return float(np.mean([_popping(one, two) for one, two in pairs])) if pairs else 0.0


def _popping(one: Frame, two: Frame) -> float:
    """Return the area that only one of the frames has, as a share of the area of both."""
    first, second = areas(one.triangles()), areas(two.triangles())
    total = first.sum() + second.sum()
    if one.topology is two.topology or np.array_equal(one.faces, two.faces):
        changed = np.minimum(first, second) < _GONE * np.maximum(first, second)
        lost, new = changed & (first > second), changed & (second > first)
    else:
        lost, new = first > 0, second > 0
    if total == 0 or not (lost.any() or new.any()):
        return 0.0
    gone = _area_away_from(one, lost, first, two, second > _GONE * first if len(first) == len(second) else second > 0)
    come = _area_away_from(two, new, second, one, first > _GONE * second if len(first) == len(second) else first > 0)
    return float((gone + come) / total)


def _area_away_from(frame: Frame, chosen: np.ndarray, area: np.ndarray, other: Frame, shown: np.ndarray) -> float:
    """Return the area of the chosen triangles that is more than a cell away from those that the other frame shows."""
    if not chosen.any():
        return 0.0
    near = _dilated(_cells(other.triangles()[shown]))
    points, owners, parts = _samples(frame.triangles()[chosen])
    place = _place(points)
    away = ~near[place[:, 0], place[:, 1], place[:, 2]]
    return float(((area[chosen] / parts**2)[owners] * away).sum())


def _cells(triangles: np.ndarray) -> np.ndarray:
    """Return (16, 16, 16) bool: cells that contain surface."""
    found = np.zeros((_CELLS, _CELLS, _CELLS), np.bool_)
    if len(triangles):
        place = _place(_samples(triangles)[0])
        found[place[:, 0], place[:, 1], place[:, 2]] = True
    return found


def _samples(triangles: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    triangles = triangles.astype(np.float64)
    parts = count_samples(triangles, 0.5 / _CELLS, _MOST_PARTS)
    return *sample_points(triangles, parts), parts


def _place(points: np.ndarray) -> np.ndarray:
    return np.clip(((points + 0.5) * _CELLS).astype(np.int64), 0, _CELLS - 1)


def _dilated(cells: np.ndarray) -> np.ndarray:
    """Add the 26 neighbors of every cell."""
    for axis in range(3):
        padded = np.pad(cells, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        length = cells.shape[axis]
        cells = np.logical_or.reduce([np.take(padded, range(s, s + length), axis) for s in range(3)])
    return cells
