"""Measures the visible surface of clips: its size, and how far it moves."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helix4d.assets.clip import Clip, Frame
from helix4d.core.arrays import BoolArray, Float64Array

Poser = Callable[[Float64Array], tuple[Frame, ...]]
"""Returns a frame for each of (T,) times in seconds; textures and UVs may be missing."""

NEARLY_STILL = 0.01
"""Motion below which times between the samples are evaluated, too: 15 loops show the same pose at 16 even times."""
_PROBE_FRAMES = 16
_GOLDEN = (np.sqrt(5) - 1) / 2


def solid(frame: Frame) -> BoolArray:
    """Return an (F,) bool mask of the triangles of a frame that have area."""
    return np.asarray(frame.areas > 0)


def union_diagonal(clip: Clip) -> float:
    """Return the length of the diagonal of `clip.bounds()`; 0 if no triangle has area."""
    try:
        low, high = clip.bounds()
    except ValueError:
        return 0.0
    return float(np.linalg.norm(high - low))


def size(clip: Clip) -> float:
    """Return the square root of the largest surface area of any frame, as a fraction of the union diagonal.

    Small if the object travels so far that the bounding box of all frames dwarfs it; 0 if there is no surface.
    """
    diagonal = union_diagonal(clip)
    largest = max(float(frame.areas.sum()) for frame in clip.frames)
    return float(np.sqrt(largest)) / diagonal if diagonal else 0.0


def motion(clip: Clip) -> float:
    """Return how far the surface moves, as a fraction of the union diagonal; 0 for a clip without motion or surface.

    This is the largest displacement of any surface point from the first frame that has a surface, or
    `Clip.motion_between` if that is larger. Within a triangle, the displacement is an affine function of the
    barycentric coordinates, so it is largest at a corner, and comparing the corners of triangles with area is exact.
    Frames whose vertices do not correspond are compared by the corners of their bounding boxes. A surface that
    vanishes, or appears later, counts as a displacement by the whole diagonal.
    """
    diagonal = union_diagonal(clip)
    if diagonal == 0:
        return 0.0
    reference: Frame | None = None
    farthest = 0.0
    for frame in clip.frames:
        mask = solid(frame)
        if reference is None:
            if mask.any():
                reference, reference_mask = frame, mask
            continue
        farthest = max(farthest, _displacement(reference, reference_mask, frame, mask))
    if any(not solid(frame).any() for frame in clip.frames):
        farthest = max(farthest, diagonal)  # the object appears or vanishes
    return max(farthest / diagonal, clip.motion_between)


def motion_at(times: Float64Array, poser: Poser) -> float:
    """Return `motion` of the frames at (T,) times; −1 for geometry that is not finite."""
    value = _motion_at(times, poser)
    return value if np.isfinite(value) else -1.0


def motion_of_times(start: float, end: float, frames_at: Poser) -> float:
    """Estimate `motion` from 16 evenly spaced frames, and from 16 uneven times between them if those hardly differ.

    Args:
        start: time of the first frame in seconds.
        end: time of the last frame in seconds.
        frames_at: returns one frame for each of (T,) times.

    Returns:
        -1 for geometry that is not finite.
    """
    value = _motion_at(np.linspace(start, end, _PROBE_FRAMES), frames_at)
    if np.isfinite(value) and value < NEARLY_STILL:
        # Fractional parts of multiples of the golden ratio are spread evenly and do not coincide with any loop.
        shares = (np.arange(_PROBE_FRAMES) + np.arange(_PROBE_FRAMES) * _GOLDEN % 1) / _PROBE_FRAMES
        value = max(value, _motion_at(start + (end - start) * shares, frames_at))
    return value if np.isfinite(value) else -1.0


def nearly_still(clip: Clip) -> bool:
    """Return whether no used vertex moves by 1 % of the diagonal of the box around all; a cheap bound of `motion`."""
    first = clip.frames[0]
    used = np.unique(np.concatenate([np.unique(frame.faces) for frame in _distinct(clip)]))
    places = [frame.vertices for frame in clip.frames]
    if not len(used) or any(len(place) != len(places[0]) for place in places):
        return False
    if any(not np.array_equal(frame.faces, first.faces) for frame in _distinct(clip)):
        return False
    low = np.min([place[used].min(axis=0) for place in places], axis=0)
    high = np.max([place[used].max(axis=0) for place in places], axis=0)
    moved = max(float(((place[used] - places[0][used]).astype(np.float64) ** 2).sum(axis=1).max()) for place in places)
    return moved < (NEARLY_STILL * float(np.linalg.norm(high.astype(np.float64) - low))) ** 2


def _distinct(clip: Clip) -> list[Frame]:
    """Return one frame of each topology."""
    return list({id(frame.topology): frame for frame in clip.frames}.values())


def _motion_at(times: Float64Array, frames_at: Poser) -> float:
    with np.errstate(over="ignore", invalid="ignore"):
        return motion(Clip("", 0, times, frames_at(times), ()))


def _displacement(first: Frame, first_solid: BoolArray, frame: Frame, frame_solid: BoolArray) -> float:
    if len(first.vertices) != len(frame.vertices) or len(first.faces) != len(frame.faces):
        return _box_displacement(first, first_solid, frame, frame_solid)
    # A triangle that is collapsed in one of the two frames is not visible there, but its vertices still have positions.
    used = np.zeros(len(first.vertices), bool)
    used[first.faces[first_solid]] = True
    used[frame.faces[frame_solid]] = True
    if not used.any():
        return 0.0
    difference = frame.vertices[used].astype(np.float64) - first.vertices[used]
    return float(np.sqrt((difference**2).sum(axis=1).max()))


def _box_displacement(first: Frame, first_solid: BoolArray, frame: Frame, frame_solid: BoolArray) -> float:
    if not frame_solid.any():
        return 0.0
    start = first.vertices[np.unique(first.faces[first_solid])].astype(np.float64)
    end = frame.vertices[np.unique(frame.faces[frame_solid])].astype(np.float64)
    low, high = end.min(axis=0) - start.min(axis=0), end.max(axis=0) - start.max(axis=0)
    return float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high))))
