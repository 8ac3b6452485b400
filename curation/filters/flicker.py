"""Measures how much surface appears or vanishes between consecutive frames, in clips whose topology changes."""

from __future__ import annotations

import numpy as np

from helix4d.assets import Clip, Frame
from helix4d.curation.filters.surface_kernels import count_samples, fill_cells, samples_in_cells

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
    first, second = one.areas, two.areas
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
    near = np.zeros((_CELLS, _CELLS, _CELLS), np.bool_)
    fill_cells(other.vertices, *_divided(other, shown), near)
    faces, parts = _divided(frame, chosen)
    away = ~samples_in_cells(frame.vertices, faces, parts, _dilated(near))
    return float((np.repeat(area[chosen] / parts**2, parts**2) * away).sum())


def _divided(frame: Frame, chosen: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the chosen (F,) triangles of a frame, and the parts per side of each."""
    faces = frame.faces[chosen]
    return faces, count_samples(frame.vertices, faces, 0.5 / _CELLS, _MOST_PARTS)


def _dilated(cells: np.ndarray) -> np.ndarray:
    """Add the 26 neighbors of every cell."""
    for axis in range(3):
        padded = np.pad(cells, [(1, 1) if a == axis else (0, 0) for a in range(3)])
        length = cells.shape[axis]
        cells = np.logical_or.reduce([np.take(padded, range(s, s + length), axis) for s in range(3)])
    return cells
