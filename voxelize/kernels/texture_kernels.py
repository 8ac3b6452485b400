"""Mip pyramids, and trilinear sampling of a material at points of a triangle's plane.

A pyramid is a range of RGBA words (uint32, little-endian bytes R, G, B, A) in one flat array of texels: the levels of a
square image with a power of two per side, largest first. The constants below describe the
columns of `materials` (M, 16) int64. A row of `transforms` (M, 12) float64 is the (2, 3) UV matrix of the color
texture, then that of the metallic-roughness texture. A row of `factors` (M, 8) float64 is base color 3, metallic,
roughness, alpha, alpha cutoff, unused.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from helix4d.voxelize.kernels.compilation import array, kernel, u1, u4
from helix4d.voxelize.kernels.vector_kernels import add_bilinear, add_color, scale_lanes

MODE = 0
OPAQUE, MASK, BLEND = 0, 1, 2
COLOR, SURFACE = 1, 7
"""Where the six entries of each texture begin: offset of its pyramid (-1 for none), log2 of its size, UV set, wrap
of u, wrap of v, whether the nearest texel of a level is taken instead of interpolating."""
SHARED = 13
"""Whether both textures exist and agree in everything but the offset, so that their texels have the same addresses."""
REPEAT, CLAMP, MIRROR = 0, 1, 2
WEIGHT = 1 << 22
"""Sum of a sample's integer weights: times a byte, it fits into 32 bits."""


@kernel(array(u1, 3), array(u4, 1, True))
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
                even = np.uint32(0)  # two channels per word, 16 bits each: four bytes sum without overflow
                odd = np.uint32(0)
                for dy in range(2):
                    for dx in range(2):
                        word = texels[source + (2 * y + dy) * size + 2 * x + dx]
                        even += word & mask
                        odd += (word >> eight) & mask
                texels[target + y * (size // 2) + x] = ((even >> two) & mask) | (((odd >> two) & mask) << eight)
        source = target
        size //= 2


@kernel()
def setup_material(f, t, uvs, corner_colors, material_ids, materials, transforms, factors, setup):
    """Write everything that the samples of face f share to setup (48,) float64.

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
    # Rows of the pseudo-inverse of (e1, e2): barycentrics 1 and 2 are linear in position and constant along the normal.
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
        if materials[material, first] < 0 or (texture == 1 and materials[material, SHARED] != 0):
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


@kernel()
def _transformed(transforms, material, m, u, v):
    return (
        transforms[material, m] * u + transforms[material, m + 1] * v + transforms[material, m + 2],
        transforms[material, m + 3] * u + transforms[material, m + 4] * v + transforms[material, m + 5],
    )


@kernel()
def _wrapped(i, size, mode):
    if mode == REPEAT:
        return i & (size - 1)
    if mode == CLAMP:
        return min(max(i, 0), size - 1)
    wrapped = i & (2 * size - 1)
    return min(wrapped, 2 * size - 1 - wrapped)


@kernel()
def _corner_color(x, y, z, s, setup):
    # Centers may be outside the triangle: extrapolated colors are clamped.
    return min(max(setup[s] + setup[s + 1] * x + setup[s + 2] * y + setup[s + 3] * z, 0.0), 1.0)


@kernel()
def _add_texels(
    count, points, s, setup, level, share, log_size, wrap_u, wrap_v, nearest, offset, first, other, texels, lanes
):
    """Add one level's samples, times share, to lanes[:, first : first + 4] (>= count, 8) int32.

    Weights are integers that sum to WEIGHT over all levels, so that a constant texture stays constant. offset and other
    are the starts of two pyramids; the second goes to lanes[:, 4:], and is omitted if other is negative.
    """
    size = 1 << (log_size - level)
    # Levels of sizes S, S/2, ..., 2s take S^2 + S^2/4 + ... + 4s^2 = (4 S^2 - 4 s^2) / 3 texels.
    before = ((4 << (2 * log_size)) - 4 * size * size) // 3
    base = offset + before
    step = other - offset
    u0, ux, uy, uz = setup[s] * size - 0.5, setup[s + 1] * size, setup[s + 2] * size, setup[s + 3] * size
    v0, vx, vy, vz = setup[s + 4] * size - 0.5, setup[s + 5] * size, setup[s + 6] * size, setup[s + 7] * size
    for n in range(count):
        x, y, z = float(points[n, 0]), float(points[n, 1]), float(points[n, 2])
        column = u0 + ux * x + uy * y + uz * z
        row = v0 + vx * x + vy * y + vz * z
        if nearest != 0:
            column, row = float(math.floor(column + 0.5)), float(math.floor(row + 0.5))
        left, above = int(math.floor(column)), int(math.floor(row))  # noqa: RUF046 (a float on a GPU)
        i0, i1 = _wrapped(left, size, wrap_u), _wrapped(left + 1, size, wrap_u)
        j0, j1 = base + _wrapped(above, size, wrap_v) * size, base + _wrapped(above + 1, size, wrap_v) * size
        right = column - left
        lower = int(share * (row - above))
        w11, w01 = int(lower * right), int((share - lower) * right)
        w10, w00 = lower - w11, share - lower - w01
        add_bilinear(texels, j0 + i0, j0 + i1, j1 + i0, j1 + i1, w00, w01, w10, w11, lanes, n, first)
        if other >= 0:
            j0 += step
            j1 += step
            add_bilinear(texels, j0 + i0, j0 + i1, j1 + i0, j1 + i1, w00, w01, w10, w11, lanes, n, 4)


@kernel()
def sample_material(count, hits, points, setup, material, materials, texels, lanes, values, factors, colors):
    """Add weight * (base color 3, metallic, roughness, alpha, 1) to the rows `hits` of colors.

    hits (>= count,) int32 rows; points (>= count, 4) float32 positions relative to corner 0, and weights; lanes
    (>= count, 8) int32, values (>= count, 8) float32 and factors (8,) float32 are scratch space.
    """
    shared = materials[material, SHARED] != 0
    same = shared and materials[material, COLOR] == materials[material, SURFACE]
    for n in range(count):
        for k in range(8):
            lanes[n, k] = 0
    for texture in range(2):
        first = COLOR if texture == 0 else SURFACE
        offset, log_size = materials[material, first], materials[material, first + 1]
        if offset >= 0 and not (shared and texture == 1):
            level = int(setup[16 + texture])
            upper = int((setup[16 + texture] - level) * WEIGHT)
            other = materials[material, SURFACE] if shared and not same else np.int64(-1)
            for k in range(2):
                share = upper if k == 1 else WEIGHT - upper
                if share > 0:
                    _add_texels(
                        count,
                        points,
                        8 * texture,
                        setup,
                        level + k,
                        share,
                        log_size,
                        materials[material, first + 3],
                        materials[material, first + 4],
                        materials[material, first + 5],
                        offset,
                        4 * texture,
                        other,
                        texels,
                        lanes,
                    )  # fmt: skip
    one = np.float32(1.0)
    unit = np.float32(1.0 / (255.0 * WEIGHT))
    second = np.int64(0 if same else 4)
    for n in range(count):
        scale_lanes(lanes, n, second, unit, values)
    for texture in range(2):
        if materials[material, COLOR if texture == 0 else SURFACE] < 0:
            for n in range(count):
                for k in range(4):
                    values[n, 4 * texture + k] = one
    if setup[40] != 0.0:
        for n in range(count):
            x, y, z = float(points[n, 0]), float(points[n, 1]), float(points[n, 2])
            for channel in range(4):
                values[n, channel] *= np.float32(_corner_color(x, y, z, 24 + 4 * channel, setup))
    for k in range(5):
        factors[k] = setup[18 + k]
    factors[5] = factors[6] = factors[7] = one
    mode = materials[material, MODE]
    opacity, cutoff = np.float32(setup[23]), np.float32(setup[41])
    for n in range(count):
        alpha = opacity * values[n, 3]
        if mode == OPAQUE:
            alpha = one
        elif mode == MASK:
            alpha = one if alpha >= cutoff else one - one
        add_color(colors, np.int64(hits[n]), points[n, 3], factors, values, n, alpha)
