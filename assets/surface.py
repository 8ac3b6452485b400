"""Which triangles have a surface, and how far that surface moves: arrays in, numbers out."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helix4d.assets.clip import Clip, Frame
from helix4d.assets.triangles import areas

_PROBE_FRAMES = 16


def solid(frame: Frame) -> np.ndarray:
    """(F,) bool: which triangles of a frame have area."""
    return areas(frame.triangles()) > 0


def union_diagonal(clip: Clip) -> float:
    """Length of the diagonal of `clip.bounds()`; 0 where no triangle has area."""
    try:
        low, high = clip.bounds()
    except ValueError:
        return 0.0
    return float(np.linalg.norm(high - low))


def size(clip: Clip) -> float:
    """Square root of the area in the frame that shows most, as a share of the union diagonal; 0 without surface.

    Small where the whole object travels so far that the box around all frames dwarfs it.
    """
    diagonal = union_diagonal(clip)
    most = max(float(areas(frame.triangles()).sum()) for frame in clip.frames)
    return float(np.sqrt(most)) / diagonal if diagonal else 0.0


def motion(clip: Clip) -> float:
    """How far the surface travels: the largest displacement of a surface point since the first frame with a surface,
    relative to the diagonal of the box around all frames.

    Within a triangle the displacement is an affine function of the barycentric coordinates, so its length is largest
    at a corner: comparing the corners of triangles with area is exact, no samples needed. Triangles that appear or
    vanish, and frames whose vertices cannot be matched by number, count by the movement of their box's corners.

    Returns:
        0 for a clip that stands still or has no surface.
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
        farthest = max(farthest, diagonal)  # something appears from nothing, or vanishes
    return farthest / diagonal


def motion_of_times(start: float, end: float, frames_at: Callable[[np.ndarray], tuple[Frame, ...]]) -> float:
    """Estimate `motion` from 16 evenly spaced frames.

    Args:
        start: time of the first frame in seconds.
        end: time of the last frame in seconds.
        frames_at: returns one frame for each of (T,) times.

    Returns:
        -1 for geometry that is not finite.
    """
    times = np.linspace(start, end, _PROBE_FRAMES)
    with np.errstate(over="ignore", invalid="ignore"):
        value = motion(Clip("", 0, times, frames_at(times), ()))
    return value if np.isfinite(value) else -1.0


def _displacement(first: Frame, first_solid: np.ndarray, frame: Frame, frame_solid: np.ndarray) -> float:
    if len(first.vertices) != len(frame.vertices) or len(first.faces) != len(frame.faces):
        return _box_displacement(first, first_solid, frame, frame_solid)
    # A triangle collapsed in one of the two frames is not seen there, but its vertices still say where it went.
    used = np.unique(np.concatenate([first.faces[first_solid], frame.faces[frame_solid]]))
    if not len(used):
        return 0.0
    difference = frame.vertices[used].astype(np.float64) - first.vertices[used]
    return float(np.sqrt((difference**2).sum(axis=1).max()))


def _box_displacement(first: Frame, first_solid: np.ndarray, frame: Frame, frame_solid: np.ndarray) -> float:
    if not frame_solid.any():
        return 0.0
    one = first.vertices[np.unique(first.faces[first_solid])].astype(np.float64)
    two = frame.vertices[np.unique(frame.faces[frame_solid])].astype(np.float64)
    low, high = two.min(axis=0) - one.min(axis=0), two.max(axis=0) - one.max(axis=0)
    return float(np.linalg.norm(np.maximum(np.abs(low), np.abs(high))))
