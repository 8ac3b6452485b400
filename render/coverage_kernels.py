"""Compiled loops of `render.coverage`."""

from __future__ import annotations

import numba
import numpy as np

REPEAT, CLAMP, MIRROR = 0, 1, 2


@numba.njit(cache=True, nogil=True)
def transmit(  # type: ignore[no-untyped-def]
    pixels,  # (V, 2) float64: x right, y down, corner of the image at 0
    depths,  # (V,) float64, all positive
    faces,  # (F, 3) int32
    classes,  # (F,) int32: -1 opaque, else index into the tables below
    culled,  # (F,) bool: the back is invisible
    uvs,  # (F, 3, 2) float64 glTF UVs of the base color texture, transform applied; zeros where there is none
    vertex_alpha,  # (F, 3) float64
    factors,  # (M,) float64 alpha factor
    cutoffs,  # (M,) float64, negative: blend
    images,  # tuple-free: (M,) int64 first texel in `texels`, -1 without texture
    shapes,  # (M, 2) int64 height and width
    wraps,  # (M, 2) int64 of u and v
    texels,  # (sum of H·W,) uint8 alpha
    offsets,  # (K, 2) float64 sample positions inside a pixel
    left,  # (H, W, K) float32, in and out: what passes each sample
    closed,  # (H, W) bool, in and out: nothing passes any sample
):
    """Multiply every sample by (1 - alpha) of every face over it; the order of the faces does not matter."""
    height, width, samples = left.shape
    weights = np.empty(3)
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, bx, by, cx, cy = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (culled[face] and area > 0.0):  # y points down: counter-clockwise fronts have negative area
            continue
        x0, x1 = max(int(np.floor(min(ax, bx, cx))), 0), min(int(np.floor(max(ax, bx, cx))), width - 1)
        y0, y1 = max(int(np.floor(min(ay, by, cy))), 0), min(int(np.floor(max(ay, by, cy))), height - 1)
        kind = classes[face]
        sign = 1.0 if area > 0.0 else -1.0
        for y in range(y0, y1 + 1):
            for x in range(x0, x1 + 1):
                if closed[y, x]:
                    continue
                inside = _inside(ax, ay, bx, by, x, y, sign)
                if inside >= 0:
                    inside = min(inside, _inside(bx, by, cx, cy, x, y, sign))
                if inside >= 0:
                    inside = min(inside, _inside(cx, cy, ax, ay, x, y, sign))
                if inside < 0:
                    continue
                if inside > 0 and kind < 0:
                    closed[y, x] = True
                    left[y, x] = 0.0
                    continue
                passing = False
                for s in range(samples):
                    if left[y, x, s] > 0.0:
                        px, py = x + offsets[s, 0], y + offsets[s, 1]
                        weights[0] = _edge(bx, by, cx, cy, px, py, sign)
                        weights[1] = _edge(cx, cy, ax, ay, px, py, sign)
                        weights[2] = _edge(ax, ay, bx, by, px, py, sign)
                        if weights[0] >= 0.0 and weights[1] >= 0.0 and weights[2] >= 0.0:
                            if kind < 0:
                                left[y, x, s] = 0.0
                            else:
                                # Perspective: barycentrics on the surface are those of the image over the depth.
                                weights[0] /= depths[i]
                                weights[1] /= depths[j]
                                weights[2] /= depths[k]
                                total = weights[0] + weights[1] + weights[2]
                                alpha = factors[kind] * (
                                    (
                                        weights[0] * vertex_alpha[face, 0]
                                        + weights[1] * vertex_alpha[face, 1]
                                        + weights[2] * vertex_alpha[face, 2]
                                    )
                                    / total
                                )
                                if images[kind] >= 0:
                                    u = (
                                        weights[0] * uvs[face, 0, 0]
                                        + weights[1] * uvs[face, 1, 0]
                                        + weights[2] * uvs[face, 2, 0]
                                    ) / total
                                    v = (
                                        weights[0] * uvs[face, 0, 1]
                                        + weights[1] * uvs[face, 1, 1]
                                        + weights[2] * uvs[face, 2, 1]
                                    ) / total
                                    alpha *= _sample(texels, images[kind], shapes[kind], wraps[kind], u, v)
                                if cutoffs[kind] >= 0.0:
                                    alpha = 1.0 if alpha >= cutoffs[kind] else 0.0
                                left[y, x, s] *= 1.0 - min(max(alpha, 0.0), 1.0)
                    if left[y, x, s] > 0.0:
                        passing = True
                if not passing:
                    closed[y, x] = True


@numba.njit(cache=True, nogil=True, inline="always")
def _inside(ax, ay, bx, by, x, y, sign):  # type: ignore[no-untyped-def]
    """1 if the whole pixel is inside the edge, -1 if it is outside, 0 where its samples must be asked."""
    dx, dy = bx - ax, by - ay
    center = sign * (dx * (y + 0.5 - ay) - dy * (x + 0.5 - ax))
    reach = 0.5000001 * (abs(dx) + abs(dy))
    if center > reach:
        return 1
    return -1 if center < -reach else 0


@numba.njit(cache=True, nogil=True, inline="always")
def _edge(ax, ay, bx, by, px, py, sign):  # type: ignore[no-untyped-def]
    """Twice the signed area of (a, b, p), positive inside; the two faces of an edge get exactly opposite numbers.

    A sample exactly on an edge belongs to one of its two faces: -1 is returned to the other.
    """
    swapped = (bx < ax) or (bx == ax and by < ay)
    if swapped:
        value = -((ax - bx) * (py - by) - (ay - by) * (px - bx))
    else:
        value = (bx - ax) * (py - ay) - (by - ay) * (px - ax)
    value *= sign
    if value == 0.0 and swapped == (sign > 0.0):
        return -1.0
    return value


@numba.njit(cache=True, nogil=True, inline="always")
def _sample(texels, first, shape, wrap, u, v):  # type: ignore[no-untyped-def]
    """Bilinear alpha in [0, 1]; texel centers at +0.5."""
    height, width = shape[0], shape[1]
    x, y = u * width - 0.5, v * height - 0.5
    fx, fy = np.floor(x), np.floor(y)
    tx, ty = x - fx, y - fy
    x0, x1 = _wrap(fx, width, wrap[0]), _wrap(fx + 1.0, width, wrap[0])
    y0, y1 = _wrap(fy, height, wrap[1]), _wrap(fy + 1.0, height, wrap[1])
    top = texels[first + y0 * width + x0] * (1.0 - tx) + texels[first + y0 * width + x1] * tx
    bottom = texels[first + y1 * width + x0] * (1.0 - tx) + texels[first + y1 * width + x1] * tx
    return (top * (1.0 - ty) + bottom * ty) / 255.0


@numba.njit(cache=True, nogil=True, inline="always")
def _wrap(index, size, mode):  # type: ignore[no-untyped-def]
    if mode == 1:  # clamp
        return int(min(max(index, 0.0), size - 1.0))
    if mode == 0:  # repeat
        return int(index - np.floor(index / size) * size)
    period = 2.0 * size
    folded = index - np.floor(index / period) * period
    return int(folded if folded < size else period - 1.0 - folded)
