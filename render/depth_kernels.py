"""Compiled depth buffer: which triangle is in front at the center of each pixel.

Shapes: pixels (V, 3) float64 = x right, y down in pixels, depth away from the eye; faces (F, 3) int32.
"""

from __future__ import annotations

import math

import numba

_FLAT = 1e-12
"""Doubled area in pixels below which a triangle is seen edge-on and covers nothing."""
_WIDE = 8
"""Minimum number of pixels in a row for which finding those between a triangle's edges saves time."""
_FAR = 1e5
"""Coordinates in pixels above which rounding may move an edge by a pixel."""
_LEVEL = 1e-3
"""Height of an edge in pixels below which its crossing with a row is uncertain."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def draw_faces(  # type: ignore[no-untyped-def]
    pixels,  # faces with a NaN are skipped
    faces,
    opacity,  # (F,) bool: whether the face hides what is behind it; with thresholds (F,) float32 in [0, 1]
    thresholds,  # None, or (K, K) float32 in (0, 1), K a power of two: a face hides where its opacity is above them
    depth,  # (H, W) float64, in and out: depth of the nearest hiding face, infinity where there is none
    winner,  # (H, W) int32, in and out: index of that face, -1 where there is none
    covered,  # (H, W) bool, in and out: whether there is any face, hiding or not; None if not needed
):
    """Draw triangles at pixel centers; of equal depths the first face stays."""
    height, width = depth.shape
    mask = 0 if thresholds is None else len(thresholds) - 1
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, bx, by, cx, cy = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if not abs(area) >= _FLAT:
            continue
        x0, x1 = max(math.ceil(min(ax, bx, cx) - 0.5), 0), min(math.floor(max(ax, bx, cx) - 0.5), width - 1)
        y0, y1 = max(math.ceil(min(ay, by, cy) - 0.5), 0), min(math.floor(max(ay, by, cy) - 0.5), height - 1)
        # Two walls of one shell, front and back, must not have holes in the same places.
        turned = area < 0.0
        narrows = x1 - x0 >= _WIDE and max(-min(ax, bx, cx, ay, by, cy), ax, bx, cx, ay, by, cy) <= _FAR
        for y in range(y0, y1 + 1):
            first, last = x0, x1
            if narrows:
                first, last = _narrowed(first, last, y + 0.5, ax, ay, bx, by, turned)
                first, last = _narrowed(first, last, y + 0.5, bx, by, cx, cy, turned)
                first, last = _narrowed(first, last, y + 0.5, cx, cy, ax, ay, turned)
            for x in range(first, last + 1):
                u, v, w = barycentrics(x + 0.5, y + 0.5, ax, ay, bx, by, cx, cy, area)
                if u < 0.0 or v < 0.0 or w < 0.0:
                    continue
                if covered is not None:
                    covered[y, x] = True
                if thresholds is None:
                    hides = opacity[face]
                else:
                    threshold = thresholds[y & mask, x & mask]
                    hides = opacity[face] > (1.0 - threshold if turned else threshold)
                z = u * pixels[i, 2] + v * pixels[j, 2] + w * pixels[k, 2]
                if hides and z < depth[y, x]:
                    depth[y, x] = z
                    winner[y, x] = face


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _narrowed(first, last, y, ax, ay, bx, by, turned):  # type: ignore[no-untyped-def]
    """Return the pixels of a row from `first` to `last` that are inside the edge a–b, or at most one pixel outside."""
    rise = by - ay
    if abs(rise) < _LEVEL:
        return first, last
    crossing = ax + (y - ay) * (bx - ax) / rise - 0.5
    if (rise < 0.0) == turned:
        return first, min(last, math.ceil(crossing) + 1)
    return max(first, math.floor(crossing) - 1), last


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def barycentrics(px, py, ax, ay, bx, by, cx, cy, area):  # type: ignore[no-untyped-def]
    """Weights of the corners a, b, c at a point; `area` is the doubled signed area of the triangle."""
    u = ((bx - px) * (cy - py) - (by - py) * (cx - px)) / area
    v = ((cx - px) * (ay - py) - (cy - py) * (ax - px)) / area
    return u, v, 1.0 - u - v
