"""Areas of triangles, with degenerate ones treated as exactly 0."""

from __future__ import annotations

import numpy as np

from helix4d.core.arrays import Float64Array, FloatArray

_FLAT = 1e-7
"""A triangle whose doubled area is below this fraction of its longest edge squared counts as a line or a point: with
float32 coordinates (relative rounding 6e-8) it cannot be distinguished from one."""


def areas(triangles: FloatArray) -> Float64Array:
    """Return the (F,) float64 areas of (F, 3, 3) corners; exactly 0 if a triangle is a line or point up to rounding."""
    corners = triangles.astype(np.float64)
    first, second = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    third = second - first
    doubled = np.linalg.norm(np.cross(first, second), axis=1)
    longest = np.maximum(np.maximum((first**2).sum(axis=1), (second**2).sum(axis=1)), (third**2).sum(axis=1))
    return np.where(doubled > _FLAT * longest, doubled / 2, 0.0)
