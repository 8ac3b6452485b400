"""Points on the surface of a clip, tracked through its frames with the triangles that contain them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.assets.clip import Clip, Frame
from helix4d.core.arrays import BoolArray, Float16Array, Float32Array, Float64Array


@dataclass(frozen=True, eq=False)
class Tracks:
    """N points over T frames.

    Attributes:
        positions: (T, N, 3) float32, in the coordinates of the clip; 0 where a point is not present.
        normals: (T, N, 3) float16 unit shading normals; 0 where a point is not present.
        present: (T, N) bool: whether the triangle of a point exists in a frame and has area there.
        frame: the frame on whose surface the points were drawn.
    """

    positions: Float32Array
    normals: Float16Array
    present: BoolArray
    frame: int


def track_points(clip: Clip, points: int, draw: np.random.Generator) -> Tracks:
    """Draw points uniformly over the surface of the frame with the largest area, and track them.

    A point keeps its barycentric coordinates in its triangle. Triangles are tracked through frames with the same
    faces; in frames with other faces no point is present.

    Args:
        clip: a clip of which at least one frame has a surface.
        points: number of points, N.
        draw: generator of the random numbers.

    Raises:
        ValueError: if no frame has a surface.
    """
    area = [float(frame.areas.sum()) for frame in clip.frames]
    chosen = int(np.argmax(area))
    source = clip.frames[chosen]
    if not area[chosen] > 0.0:
        raise ValueError("no frame of the clip has a surface to track")
    triangles, weights = _draw(source.areas, points, draw)
    corners = source.faces[triangles]
    shape = (len(clip.frames), points)
    positions, normals = np.zeros((*shape, 3), np.float32), np.zeros((*shape, 3), np.float16)
    present = np.zeros(shape, bool)
    for number, frame in enumerate(clip.frames):
        if frame.topology is not source.topology and not np.array_equal(frame.faces, source.faces):
            continue
        shown = frame.areas[triangles] > 0.0
        present[number] = shown
        positions[number, shown] = _mean(frame.vertices, corners[shown], weights[shown])
        normals[number, shown] = _normals(frame, corners[shown], weights[shown])
    return Tracks(positions, normals, present, chosen)


def _draw(areas: Float64Array, points: int, draw: np.random.Generator) -> tuple[np.ndarray, Float64Array]:
    """Return (N,) triangles and (N, 3) barycentric coordinates of points that are uniform over the area."""
    cumulative = np.cumsum(areas)
    # Rounding may put a draw at the end of the sum, and a triangle without area must never be chosen.
    last = int(np.flatnonzero(areas)[-1])
    triangles = np.minimum(np.searchsorted(cumulative, draw.random(points) * cumulative[-1], side="right"), last)
    along = draw.random((points, 2))
    along = np.where(along.sum(axis=1, keepdims=True) > 1.0, 1.0 - along, along)
    return triangles, np.column_stack([1.0 - along.sum(axis=1), along])


def _mean(values: Float32Array, corners: np.ndarray, weights: Float64Array) -> Float64Array:
    return np.asarray(np.einsum("nc,ncd->nd", weights, values[corners].astype(np.float64)))


def _normals(frame: Frame, corners: np.ndarray, weights: Float64Array) -> Float64Array:
    """Return (N, 3) unit shading normals; the triangle's normal where those of its corners cancel out."""
    smooth = _mean(frame.normals, corners, weights)
    a, b, c = (frame.vertices[corners[:, corner]].astype(np.float64) for corner in range(3))
    flat = np.cross(b - a, c - a)
    length = np.linalg.norm(smooth, axis=1, keepdims=True)
    normals = np.where(length > 1e-6, smooth, flat)
    return np.asarray(normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30))
