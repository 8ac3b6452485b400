"""Compiled loops of `helix4d.render.alpha.coverage`."""

from __future__ import annotations

import math

import numba
import numpy as np

REPEAT, CLAMP, MIRROR = 0, 1, 2
_MOST_TAPS = 8
"""Taps along a side of a sample's square."""
_UNIT = 1.0 / 255.0
_NOTHING = (0.0,) * 11
_NO_IMAGE = (-1, 1, 1, 1.0, 1.0, 0, 0, 0)
_FLAT = (0.0,) * 9


@numba.njit(cache=True, nogil=True, error_model="numpy")
def transmit(  # type: ignore[no-untyped-def]
    pixels,  # (V, 2) float64: x right, y down, corner of the image at 0
    depths,  # (V,) float64, all positive
    faces,  # (F, 3) int32
    classes,  # (F,) int32: -1 opaque, else index into the tables below
    culled,  # (F,) bool: whether the back is invisible
    uvs,  # (F, 3, 2) float64 glTF UVs of the base color texture, transformed; zeros without a texture
    vertex_alpha,  # (F, 3) float64
    factors,  # (M,) float64 alpha factor
    cutoffs,  # (M,) float64, negative: blend
    images,  # (M, L) int64 first texel in `texels` of the image at 1, 1/2, 1/4, ... of its size, -1 without a texture
    shapes,  # (M, 2) int64 height and width of the image at full size
    wraps,  # (M, 3) int64 wrap modes of u and v, and whether the nearest texel is taken instead of interpolating
    texels,  # (sum of H·W,) uint8 alpha
    offsets,  # (K, 2) float64 sample positions inside a pixel
    left,  # (H, W, K) float32, in and out: transmittance of each sample
    closed,  # (H, W) bool, in and out: whether all samples of the pixel are opaque
):
    """Multiply every sample by (1 - alpha) of every face over it; the order of the faces does not matter.

    K is a square number, and each of the K equal squares of a pixel holds one sample. Where a texture is finer than
    these squares, alpha is the mean over the sample's square with one tap per texel, since point samples of a distant
    texture are noisy. Where a square spans many texels, BLEND reads a smaller image. MASK does not: its cutoff must
    apply to the texels themselves.
    """
    height, width, samples = left.shape
    squares = round(math.sqrt(samples))
    # Not `depth_kernels.draw_faces`: 16 samples per pixel that adjoining faces share without gap or overlap, no depths.
    for face in range(len(faces)):
        i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
        ax, ay, bx, by, cx, cy = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
        area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
        if area == 0.0 or (culled[face] and area > 0.0):  # y points down: counter-clockwise fronts have negative area
            continue
        x0, x1 = max(int(np.floor(min(ax, bx, cx))), 0), min(int(np.floor(max(ax, bx, cx))), width - 1)
        y0, y1 = max(int(np.floor(min(ay, by, cy))), 0), min(int(np.floor(max(ay, by, cy))), height - 1)
        kind = classes[face]
        corners = (ax, ay, bx, by, cx, cy, depths[i], depths[j], depths[k], 1.0 if area > 0.0 else -1.0)
        sign = corners[9]
        taps_x, taps_y, surface, image = 1, 1, _NOTHING, _NO_IMAGE
        if kind >= 0:
            # Scalars, because passing arrays to `_alpha` costs more than its work.
            uv, colors = uvs[face], vertex_alpha[face]
            surface = (uv[0, 0], uv[0, 1], uv[1, 0], uv[1, 1], uv[2, 0], uv[2, 1],
                       colors[0], colors[1], colors[2], factors[kind], cutoffs[kind])  # fmt: skip
            if images[kind, 0] >= 0:
                levels = images.shape[1] if cutoffs[kind] < 0.0 else 1
                taps_x, taps_y, level = _taps(corners, area, uv, shapes[kind], squares, levels)
                size, width_0, height_0 = 1 << level, shapes[kind, 1], shapes[kind, 0]
                image = (images[kind, level], (width_0 + size - 1) >> level, (height_0 + size - 1) >> level,
                         width_0 / size, height_0 / size, wraps[kind, 0], wraps[kind, 1],
                         wraps[kind, 2] if level == 0 else 0)  # fmt: skip
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
                averaged = taps_x * taps_y > 1
                whole = averaged and inside > 0
                plane = _plane(x, y, corners, surface) if whole else _FLAT
                for s in range(samples):
                    if left[y, x, s] == 0.0:
                        continue
                    px, py = x + offsets[s, 0], y + offsets[s, 1]
                    x_0, y_0 = 0.0, 0.0
                    if averaged:
                        x_0, y_0 = np.floor(px * squares) / squares, np.floor(py * squares) / squares
                    if whole:
                        alpha = _mean(x_0 - x, y_0 - y, taps_x, taps_y, squares, plane, surface[10], image, texels)
                    elif kind >= 0:
                        alpha = _alpha(px, py, corners, surface, image, texels)
                        if averaged and alpha >= 0.0:
                            alpha = _mean_of_part(
                                alpha, x_0, y_0, taps_x, taps_y, squares, corners, surface, image, texels
                            )
                    else:
                        alpha = _in(px, py, corners)
                    if alpha > 0.0:
                        left[y, x, s] *= 1.0 - alpha
                    if left[y, x, s] > 0.0:
                        passing = True
                if not passing:
                    closed[y, x] = True


@numba.njit(cache=True, nogil=True, error_model="numpy")
def covered(left, closed):  # type: ignore[no-untyped-def]
    """(H, W) float32 alpha: one minus the mean transmittance of the pixel's samples."""
    height, width, samples = left.shape
    alpha = np.ones((height, width), np.float32)
    for y in range(height):
        for x in range(width):
            if closed[y, x]:
                continue
            total = 0.0
            for s in range(samples):
                total += left[y, x, s]
            alpha[y, x] = 1.0 - total / samples
    return alpha


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _plane(x, y, corners, surface):  # type: ignore[no-untyped-def]
    """Alpha, u and v at a pixel's corner and their steps to the right and down, without perspective."""
    alpha, u, v = _interpolate(x, y, corners, surface)
    alpha_x, u_x, v_x = _interpolate(x + 1.0, y, corners, surface)
    alpha_y, u_y, v_y = _interpolate(x, y + 1.0, corners, surface)
    return alpha, u, v, alpha_x - alpha, u_x - u, v_x - v, alpha_y - alpha, u_y - u, v_y - v


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mean(x_0, y_0, taps_x, taps_y, squares, plane, cutoff, image, texels):  # type: ignore[no-untyped-def]
    """Mean alpha over a square of a pixel that the face covers completely."""
    alpha, u, v, alpha_x, u_x, v_x, alpha_y, u_y, v_y = plane
    width, height = 1.0 / (taps_x * squares), 1.0 / (taps_y * squares)
    total = 0.0
    for row in range(taps_y):
        y = y_0 + (row + 0.5) * height
        for column in range(taps_x):
            x = x_0 + (column + 0.5) * width
            texel = _sample(texels, image, u + x * u_x + y * u_y, v + x * v_x + y * v_y)
            total += _cut((alpha + x * alpha_x + y * alpha_y) * texel, cutoff)
    return total / (taps_x * taps_y)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _mean_of_part(alpha, x_0, y_0, taps_x, taps_y, squares, corners, surface, image, texels):  # type: ignore[no-untyped-def]
    """Mean alpha over the covered part of a square; `alpha`, that of the sample, where no tap hits the face."""
    total, hits = 0.0, 0
    for tap in range(taps_x * taps_y):
        x = x_0 + (tap % taps_x + 0.5) / (taps_x * squares)
        y = y_0 + (tap // taps_x + 0.5) / (taps_y * squares)
        one = _alpha(x, y, corners, surface, image, texels)
        if one >= 0.0:
            total += one
            hits += 1
    return total / hits if hits else alpha


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _taps(corners, area, uv, shape, squares, levels):  # type: ignore[no-untyped-def]
    """Texels that a sample's square spans to the right and down, and the image level; ignores perspective."""
    ax, ay, bx, by, cx, cy = corners[0], corners[1], corners[2], corners[3], corners[4], corners[5]
    right, down = 0.0, 0.0
    for axis in range(2):
        texels = float(shape[1 - axis])
        first, second = (uv[1, axis] - uv[0, axis]) * texels, (uv[2, axis] - uv[0, axis]) * texels
        right = max(right, abs(first * (cy - ay) - second * (by - ay)))
        down = max(down, abs(second * (bx - ax) - first * (cx - ax)))
    right, down = right / (abs(area) * squares), down / (abs(area) * squares)
    level = 0
    while level + 1 < levels and min(right, down) > 4.0:
        right, down, level = 0.5 * right, 0.5 * down, level + 1
    most = float(_MOST_TAPS)
    return math.ceil(min(max(right, 1.0), most)), math.ceil(min(max(down, 1.0), most)), level


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _alpha(px, py, corners, surface, image, texels):  # type: ignore[no-untyped-def]
    """Alpha in [0, 1] of a face at a point of the image, -1 outside the face."""
    if _in(px, py, corners) < 0.0:
        return -1.0
    alpha, u, v = _interpolate(px, py, corners, surface)
    if image[0] >= 0:
        alpha *= _sample(texels, image, u, v)
    return _cut(alpha, surface[10])


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _interpolate(px, py, corners, surface):  # type: ignore[no-untyped-def]
    """Alpha without the texture, and u and v, of a face at a point of the image."""
    ax, ay, bx, by, cx, cy, near_a, near_b, near_c, sign = corners
    au, av, bu, bv, cu, cv, a_alpha, b_alpha, c_alpha, factor, _ = surface
    # Perspective: barycentrics on the surface are those in the image divided by depth.
    a = _edge(bx, by, cx, cy, px, py, sign) / near_a
    b = _edge(cx, cy, ax, ay, px, py, sign) / near_b
    c = _edge(ax, ay, bx, by, px, py, sign) / near_c
    total = a + b + c
    alpha = factor * (a * a_alpha + b * b_alpha + c * c_alpha) / total
    return alpha, (a * au + b * bu + c * cu) / total, (a * av + b * bv + c * cv) / total


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _cut(alpha, cutoff):  # type: ignore[no-untyped-def]
    if cutoff >= 0.0:
        return 1.0 if alpha >= cutoff else 0.0
    return min(max(alpha, 0.0), 1.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _in(px, py, corners):  # type: ignore[no-untyped-def]
    """1 inside an opaque face, -1 outside."""
    ax, ay, bx, by, cx, cy, sign = corners[0], corners[1], corners[2], corners[3], corners[4], corners[5], corners[9]
    if (
        _edge(bx, by, cx, cy, px, py, sign) < 0.0
        or _edge(cx, cy, ax, ay, px, py, sign) < 0.0
        or _edge(ax, ay, bx, by, px, py, sign) < 0.0
    ):
        return -1.0
    return 1.0


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _inside(ax, ay, bx, by, x, y, sign):  # type: ignore[no-untyped-def]
    """1 if the whole pixel is inside the edge, -1 if it is outside, 0 if its samples must be tested."""
    dx, dy = bx - ax, by - ay
    center = sign * (dx * (y + 0.5 - ay) - dy * (x + 0.5 - ax))
    reach = 0.5000001 * (abs(dx) + abs(dy))
    if center > reach:
        return 1
    return -1 if center < -reach else 0


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _edge(ax, ay, bx, by, px, py, sign):  # type: ignore[no-untyped-def]
    """Twice the signed area of (a, b, p), positive inside; the two faces of an edge get exactly opposite values.

    A sample exactly on an edge belongs to one of the two faces; the other gets -1.
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


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _sample(texels, image, u, v):  # type: ignore[no-untyped-def]
    """Bilinear alpha in [0, 1]; texel centers at +0.5."""
    first, width, height, scale_u, scale_v, wrap_u, wrap_v, nearest = image
    x, y = u * scale_u - 0.5, v * scale_v - 0.5
    if nearest != 0:
        x, y = np.floor(x + 0.5), np.floor(y + 0.5)
    fx, fy = np.floor(x), np.floor(y)
    tx, ty = x - fx, y - fy
    ix, iy = np.int64(fx), np.int64(fy)
    if ix >= 0 and ix + 1 < width and iy >= 0 and iy + 1 < height:
        a = first + iy * width + ix
        b, c, d = a + 1, a + width, a + width + 1
    else:
        x0, x1 = _wrap(ix, width, wrap_u), _wrap(ix + 1, width, wrap_u)
        y0, y1 = first + _wrap(iy, height, wrap_v) * width, first + _wrap(iy + 1, height, wrap_v) * width
        a, b, c, d = y0 + x0, y0 + x1, y1 + x0, y1 + x1
    top = texels[a] * (1.0 - tx) + texels[b] * tx
    bottom = texels[c] * (1.0 - tx) + texels[d] * tx
    return (top * (1.0 - ty) + bottom * ty) * _UNIT


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _wrap(index, size, mode):  # type: ignore[no-untyped-def]
    if 0 <= index < size:
        return index
    if mode == 1:  # clamp
        return min(max(index, 0), size - 1)
    if mode == 0:  # repeat
        return index % size
    folded = index % (2 * size)
    return folded if folded < size else 2 * size - 1 - folded
