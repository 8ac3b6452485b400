"""Areas, and which triangles have none: arrays in, arrays out."""

from __future__ import annotations

import numpy as np

_FLAT = 1e-7
"""A triangle whose doubled area is below this share of its longest edge squared is a line or a point: float32
coordinates cannot tell it from one (their rounding is 6e-8)."""


def areas(triangles: np.ndarray) -> np.ndarray:
    """(F,) float64 areas of (F, 3, 3) corners; exactly 0 where the triangle is a line or a point within rounding."""
    corners = triangles.astype(np.float64)
    one, two = corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]
    three = two - one
    doubled = np.linalg.norm(np.cross(one, two), axis=1)
    longest = np.maximum(np.maximum((one**2).sum(axis=1), (two**2).sum(axis=1)), (three**2).sum(axis=1))
    return np.where(doubled > _FLAT * longest, doubled / 2, 0.0)
