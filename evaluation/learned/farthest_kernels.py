"""Compiled loop of `helix4d.evaluation.learned.points`."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def farthest(  # type: ignore[no-untyped-def]
    points,  # (N, 3) float32
    chosen,  # (K,) int64, out; the first is point 0
    blind,  # float32: points whose squared norm is not above this are never chosen, but for the first
):
    """Each next point is the one farthest from those chosen before; the first of equally far ones wins."""
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
