"""Mip pyramids and the trilinear sampling of a material at the points of a triangle's plane.

A pyramid is a run of RGBA words (uint32, little-endian bytes R, G, B, A) in one flat array of texels: the levels of a
square power of two, largest first. A row of `materials` (M, 16) int64 is described by the constants below, a row of
`transforms` (M, 12) float64 is the (2, 3) UV matrix of the color texture, then that of the metallic-roughness texture,
a row of `factors` (M, 8) float64 is base color 3, metallic, roughness, alpha, alpha cutoff, unused.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numba import njit

MODE = 0
"""0 OPAQUE, 1 MASK, 2 BLEND."""
COLOR, SURFACE = 1, 7
"""Where the six entries of each texture begin: offset of its pyramid (-1 for none), log2 of its size, UV set, wrap
of u, wrap of v, and for SURFACE whether it shares the lookup of COLOR."""
REPEAT, CLAMP, MIRROR = 0, 1, 2


@njit(cache=True, nogil=True)
def build_pyramid(image, texels):
    """Fill texels (sum of 4^k,) uint32 from image (S, S, 4) uint8, S a power of two; levels are floored 2x2 means."""
    size = len(image)
    for y in range(size):
        for x in range(size):
            word = np.uint32(image[y, x, 0]) | (np.uint32(image[y, x, 1]) << np.uint32(8))
            word |= (np.uint32(image[y, x, 2]) << np.uint32(16)) | (np.uint32(image[y, x, 3]) << np.uint32(24))
            texels[y * size + x] = word
    source = 0
    mask = np.uint32(0x00FF00FF)
    eight = np.uint32(8)
    two = np.uint32(2)
    while size > 1:
        target = source + size * size
        for y in range(size // 2):
            for x in range(size // 2):
                even = np.uint32(0)  # two channels to a word, sixteen bits each: four bytes sum without overflow
                odd = np.uint32(0)
                for dy in range(2):
                    for dx in range(2):
                        word = texels[source + (2 * y + dy) * size + 2 * x + dx]
                        even += word & mask
                        odd += (word >> eight) & mask
                texels[target + y * (size // 2) + x] = ((even >> two) & mask) | (((odd >> two) & mask) << eight)
        source = target
        size //= 2


@njit(cache=True, nogil=True, error_model="numpy")
def setup_material(f, t, normal, scale, uvs, corner_colors, material_ids, materials, transforms, factors, setup):
    """Everything about face f that its samples share, into setup (48,) float64.

    setup[0:8] and [8:16]: for each texture u, du/dx, du/dy, du/dz, v, dv/dx, dv/dy, dv/dz in units of the image;
    [16], [17]: their mip levels; [18:24] factors; [24:40]: four corner colors, value and gradient; [40]: has colors;
    [41]: alpha cutoff.
    """
    material = material_ids[f]
    for k in range(7):
        setup[18 + k] = factors[material, k]
    setup[41] = factors[material, 6]
    e1x, e1y, e1z = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    e2x, e2y, e2z = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    # Rows of the pseudo-inverse of (e1, e2): barycentrics 1 and 2 are linear in the position, flat along the normal.
    e11 = e1x * e1x + e1y * e1y + e1z * e1z
    e12 = e1x * e2x + e1y * e2y + e1z * e2z
    e22 = e2x * e2x + e2y * e2y + e2z * e2z
    nx, ny, nz = e1y * e2z - e1z * e2y, e1z * e2x - e1x * e2z, e1x * e2y - e1y * e2x
    inverse = 1.0 / (nx * nx + ny * ny + nz * nz)
    w1x, w1y, w1z = (
        (e22 * e1x - e12 * e2x) * inverse,
        (e22 * e1y - e12 * e2y) * inverse,
        (e22 * e1z - e12 * e2z) * inverse,
    )
    w2x, w2y, w2z = (
        (e11 * e2x - e12 * e1x) * inverse,
        (e11 * e2y - e12 * e1y) * inverse,
        (e11 * e2z - e12 * e1z) * inverse,
    )
    for texture in range(2):
        first = COLOR if texture == 0 else SURFACE
        if materials[material, first] < 0:
            continue
        size = float(1 << materials[material, first + 1])
        uv_set = materials[material, first + 2]
        m = 6 * texture
        u0, v0 = _transformed(transforms, material, m, uvs[uv_set, f, 0, 0], uvs[uv_set, f, 0, 1])
        u1, v1 = _transformed(transforms, material, m, uvs[uv_set, f, 1, 0], uvs[uv_set, f, 1, 1])
        u2, v2 = _transformed(transforms, material, m, uvs[uv_set, f, 2, 0], uvs[uv_set, f, 2, 1])
        du1, dv1, du2, dv2 = u1 - u0, v1 - v0, u2 - u0, v2 - v0
        s = 8 * texture
        setup[s] = u0
        setup[s + 1], setup[s + 2], setup[s + 3] = du1 * w1x + du2 * w2x, du1 * w1y + du2 * w2y, du1 * w1z + du2 * w2z
        setup[s + 4] = v0
        setup[s + 5], setup[s + 6], setup[s + 7] = dv1 * w1x + dv2 * w2x, dv1 * w1y + dv2 * w2y, dv1 * w1z + dv2 * w2z
        level = 0.0
        determinant = du1 * dv2 - du2 * dv1
        if abs(determinant) >= 1e-6:
            inv = 1.0 / determinant
            pux, puy, puz = (
                (dv2 * e1x - dv1 * e2x) * inv,
                (dv2 * e1y - dv1 * e2y) * inv,
                (dv2 * e1z - dv1 * e2z) * inv,
            )
            pvx, pvy, pvz = (
                (du1 * e2x - du2 * e1x) * inv,
                (du1 * e2y - du2 * e1y) * inv,
                (du1 * e2z - du2 * e1z) * inv,
            )
            # Lengths are in voxels here, so the voxel size h of the formula is 1.
            stretch = math.sqrt(
                math.sqrt(pux * pux + puy * puy + puz * puz) * math.sqrt(pvx * pvx + pvy * pvy + pvz * pvz)
            )
            level = min(max(math.log2(size / stretch), 0.0), float(materials[material, first + 1]))
        setup[16 + texture] = level
    setup[40] = 0.0
    if len(corner_colors):
        setup[40] = 1.0
        for channel in range(4):
            c0 = float(corner_colors[f, 0, channel])
            d1 = float(corner_colors[f, 1, channel]) - c0
            d2 = float(corner_colors[f, 2, channel]) - c0
            s = 24 + 4 * channel
            setup[s] = c0
            setup[s + 1] = d1 * w1x + d2 * w2x
            setup[s + 2] = d1 * w1y + d2 * w2y
            setup[s + 3] = d1 * w1z + d2 * w2z


@njit(cache=True, nogil=True)
def _transformed(transforms, material, m, u, v):
    return (
        transforms[material, m] * u + transforms[material, m + 1] * v + transforms[material, m + 2],
        transforms[material, m + 3] * u + transforms[material, m + 4] * v + transforms[material, m + 5],
    )


@njit(cache=True, nogil=True)
def _wrapped(i, size, mode):
    if mode == REPEAT:
        return i & (size - 1)
    if mode == CLAMP:
        return min(max(i, 0), size - 1)
    i &= 2 * size - 1
    return i if i < size else 2 * size - 1 - i


@njit(cache=True, nogil=True)
def _add_word(word, weight, r, g, b, a):
    r += weight * np.float32(word & np.uint32(255))
    g += weight * np.float32((word >> np.uint32(8)) & np.uint32(255))
    b += weight * np.float32((word >> np.uint32(16)) & np.uint32(255))
    a += weight * np.float32(word >> np.uint32(24))
    return r, g, b, a


@njit(cache=True, nogil=True)
def _bilinear(u, v, offset, log_size, level, weight, wrap_u, wrap_v, texels, r, g, b, a):
    """Add weight * (texture at (u, v) of one level), in bytes, to (r, g, b, a)."""
    size = 1 << (log_size - level)
    # Levels of sizes S, S/2, ... begin after S^2 + S^2/4 + ... = (4 S^2 - 4 s^2) / 3 texels.
    base = offset + (((4 << (2 * log_size)) - 4 * size * size) // 3)
    x = u * size - 0.5
    y = v * size - 0.5
    fx, fy = math.floor(x), math.floor(y)
    i, j = int(fx), int(fy)
    sx, sy = np.float32(x - fx), np.float32(y - fy)
    one = np.float32(1.0)
    i0, i1 = _wrapped(i, size, wrap_u), _wrapped(i + 1, size, wrap_u)
    j0, j1 = base + _wrapped(j, size, wrap_v) * size, base + _wrapped(j + 1, size, wrap_v) * size
    r, g, b, a = _add_word(texels[j0 + i0], weight * (one - sx) * (one - sy), r, g, b, a)
    r, g, b, a = _add_word(texels[j0 + i1], weight * sx * (one - sy), r, g, b, a)
    r, g, b, a = _add_word(texels[j1 + i0], weight * (one - sx) * sy, r, g, b, a)
    return _add_word(texels[j1 + i1], weight * sx * sy, r, g, b, a)


@njit(cache=True, nogil=True)
def _trilinear(x, y, z, s, level, material, first, materials, setup, texels):
    u = setup[s] + setup[s + 1] * x + setup[s + 2] * y + setup[s + 3] * z
    v = setup[s + 4] + setup[s + 5] * x + setup[s + 6] * y + setup[s + 7] * z
    offset, log_size = materials[material, first], materials[material, first + 1]
    wrap_u, wrap_v = materials[material, first + 3], materials[material, first + 4]
    lower = int(level)
    part = np.float32(level - lower)
    zero = np.float32(0.0)
    r, g, b, a = _bilinear(
        u, v, offset, log_size, lower, np.float32(1.0) - part, wrap_u, wrap_v, texels, zero, zero, zero, zero
    )
    if part > zero:
        r, g, b, a = _bilinear(u, v, offset, log_size, lower + 1, part, wrap_u, wrap_v, texels, r, g, b, a)
    return r, g, b, a


@njit(cache=True, nogil=True)
def sample_material(x, y, z, weight, setup, material, materials, texels, colors, slot):
    """Add weight * (base color 3, metallic, roughness, alpha, 1) at corner 0 + (x, y, z) to colors[slot]."""
    byte = np.float32(1.0 / 255.0)
    r, g, b = setup[18], setup[19], setup[20]
    metallic, roughness, alpha = setup[21], setup[22], setup[23]
    if materials[material, COLOR] >= 0:
        tr, tg, tb, ta = _trilinear(x, y, z, 0, setup[16], material, COLOR, materials, setup, texels)
        r *= tr * byte
        g *= tg * byte
        b *= tb * byte
        alpha *= ta * byte
    if materials[material, SURFACE] >= 0:
        tr, tg, tb, ta = _trilinear(x, y, z, 8, setup[17], material, SURFACE, materials, setup, texels)
        metallic *= tb * byte
        roughness *= tg * byte
    if setup[40] != 0.0:
        r *= _corner_color(x, y, z, 24, setup)
        g *= _corner_color(x, y, z, 28, setup)
        b *= _corner_color(x, y, z, 32, setup)
        alpha *= _corner_color(x, y, z, 36, setup)
    mode = materials[material, MODE]
    if mode == 0:
        alpha = 1.0
    elif mode == 1:
        alpha = 1.0 if alpha >= setup[41] else 0.0
    w = np.float32(weight)
    colors[slot, 0] += w * np.float32(r)
    colors[slot, 1] += w * np.float32(g)
    colors[slot, 2] += w * np.float32(b)
    colors[slot, 3] += w * np.float32(metallic)
    colors[slot, 4] += w * np.float32(roughness)
    colors[slot, 5] += w * np.float32(alpha)
    colors[slot, 6] += w


@njit(cache=True, nogil=True)
def _corner_color(x, y, z, s, setup):
    # Centers may lie outside the triangle: an extrapolated color is cut to the range of colors.
    return min(max(setup[s] + setup[s + 1] * x + setup[s + 2] * y + setup[s + 3] * z, 0.0), 1.0)
