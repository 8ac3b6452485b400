"""Measures the timing of a clip: how many different poses its frames show, and whether the first is an outlier."""

from __future__ import annotations

import numpy as np

from helix4d.assets import Clip, Frame
from helix4d.assets.surface import solid
from helix4d.core.arrays import Int32Array

_SAME = 1e-3
"""Surfaces closer than this show the same pose: half a voxel at 512 per side of the box around all frames."""
_FIRST_TRIANGLES = 256


def distinct_poses(clip: Clip) -> int:
    """Count the frames of a normalized clip that differ from all frames counted before.

    Frames differ if a corner of a visible triangle is more than 0.001 box edges away from its place in the other frame,
    or if they show different numbers of triangles. A loop that ends as it starts has one pose fewer than frames; a
    motion that runs forward and backward has half as many.
    """
    counted: list[Frame] = []
    for frame in clip.frames:
        if all(_differs(frame, earlier) for earlier in counted):
            counted.append(frame)
    return len(counted)


def start_jump(clip: Clip) -> float:
    """Return how far the surface of a normalized clip moves from frame 0 to 1, relative to its largest later step.

    A step is the distance that the surface moves between consecutive frames: the mean over the centers of triangles,
    weighted by the area that both frames show. Later steps count as 0.001 box edges at least, so that a still clip has
    a jump of 0. A clip of fewer than three frames has no later step and a jump of 0.
    """
    steps = [_step(one, two) for one, two in zip(clip.frames, clip.frames[1:], strict=False)]
    return steps[0] / max(*steps[1:], _SAME) if len(steps) > 1 else 0.0


def _differs(one: Frame, other: Frame) -> bool:
    if not _corresponds(one, other):
        first, second = one.faces[solid(one)], other.faces[solid(other)]
        return len(first) != len(second) or _moved(one, first, other, second)
    # A few triangles distinguish most frames; only frames that agree in these are compared completely.
    for step in (max(len(one.faces) // _FIRST_TRIANGLES, 1), 1):
        shown = (one.areas[::step] > 0) | (other.areas[::step] > 0)
        faces = one.faces[::step][shown]
        if _moved(one, faces, other, faces):
            return True
    return False


def _moved(one: Frame, first: Int32Array, other: Frame, second: Int32Array) -> bool:
    """Return whether a corner of (N, 3) faces of one frame is away from that of the same face of another."""
    away = one.vertices[first] - other.vertices[second]
    return bool((away**2).sum(axis=2).max(initial=0.0) > _SAME**2)


def _step(one: Frame, two: Frame) -> float:
    if not _corresponds(one, two):
        return _box_step(one, two)
    weights = np.minimum(one.areas, two.areas)
    if not weights.any():
        return 0.0
    moved = (two.vertices - one.vertices)[one.faces].mean(axis=1, dtype=np.float64)
    return float(np.average(np.linalg.norm(moved, axis=1), weights=weights))


def _box_step(one: Frame, two: Frame) -> float:
    """Return the mean distance of two opposite corners of the boxes around frames whose triangles do not correspond."""
    shown = [frame.vertices[frame.faces[solid(frame)]].reshape(-1, 3).astype(np.float64) for frame in (one, two)]
    if not (len(shown[0]) and len(shown[1])):
        return 0.0
    low, high = (np.linalg.norm(edge(shown[1], axis=0) - edge(shown[0], axis=0)) for edge in (np.min, np.max))
    return float(low + high) / 2


def _corresponds(one: Frame, other: Frame) -> bool:
    """Return whether the frames have the same triangles over the same number of vertices."""
    return len(one.vertices) == len(other.vertices) and (
        one.topology is other.topology or np.array_equal(one.faces, other.faces)
    )
