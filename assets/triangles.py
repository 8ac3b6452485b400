"""Areas of triangles, with degenerate ones treated as exactly 0."""

from __future__ import annotations

import numpy as np

from helix4d.core.arrays import Float64Array, FloatArray, IntArray

_FLAT = 1e-7
"""A triangle whose doubled area is below this fraction of its longest edge squared counts as a line or a point: with
float32 coordinates (relative rounding 6e-8) it cannot be distinguished from one."""


_BLOCK = 1 << 15
"""Triangles per chunk: intermediate results take 300 bytes per triangle."""


def areas(triangles: FloatArray) -> Float64Array:
    """Return the (F,) float64 areas of (F, 3, 3) corners; exactly 0 if a triangle is a line or point up to rounding."""
    found = np.empty(len(triangles))
    for start in range(0, len(triangles), _BLOCK):
        found[start : start + _BLOCK] = _areas(triangles[start : start + _BLOCK])
    return found


def face_areas(vertices: FloatArray, faces: IntArray) -> Float64Array:
    """Return the `areas` of (F, 3) faces over (V, 3) vertices."""
    found = np.empty(len(faces))
    for start in range(0, len(faces), _BLOCK):
        found[start : start + _BLOCK] = _areas(vertices[faces[start : start + _BLOCK]])
    return found


def _areas(triangles: FloatArray) -> Float64Array:
    # One array per coordinate, because np.cross and sums over rows of three take several times as long.
    corners = np.ascontiguousarray(triangles.reshape(-1, 9).T, np.float64).reshape(3, 3, -1)
    (ax, ay, az), (bx, by, bz) = first, second = corners[1] - corners[0], corners[2] - corners[0]
    doubled = np.sqrt(_squares(np.stack([ay * bz - az * by, az * bx - ax * bz, ax * by - ay * bx])))
    longest = np.maximum(np.maximum(_squares(first), _squares(second)), _squares(second - first))
    return np.where(doubled > _FLAT * longest, doubled / 2, 0.0)


def _squares(vectors: Float64Array) -> Float64Array:
    """Return the squared lengths of (3, F) vectors."""
    x, y, z = vectors
    return np.asarray(x * x + y * y + z * z)
