"""Farthest-point sampling, compiled."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def farthest(  # type: ignore[no-untyped-def]
    points,  # (N, 3) float32
    chosen,  # (K,) int64, output; the first is point 0
    blind,  # float32: points with a squared norm up to this are never chosen, except the first
):
    """Choose each next point as the one farthest from those already chosen; ties go to the lowest index."""
    count = len(points)
    nearest = np.full(count, np.float32(np.inf))
    last = 0
    chosen[0] = 0
    for k in range(1, len(chosen)):
        x, y, z = points[last, 0], points[last, 1], points[last, 2]
        best, best_distance = 0, np.float32(-1.0)
        for i in range(count):
            px, py, pz = points[i, 0], points[i, 1], points[i, 2]
            if px * px + py * py + pz * pz <= blind:
                continue
            dx, dy, dz = px - x, py - y, pz - z
            distance = dx * dx + dy * dy + dz * dz
            if distance < nearest[i]:
                nearest[i] = distance
            if nearest[i] > best_distance:
                best, best_distance = i, nearest[i]
        chosen[k] = best
        last = best
