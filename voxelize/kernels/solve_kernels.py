"""Converts accumulators to voxels in Morton order: the dual vertex minimizes the quadric within its voxel.

If the free minimum of a strictly convex quadratic violates some bounds of a box, its constrained minimum is on one of
the violated faces (otherwise a step toward the free minimum would be feasible and lower). So at most three faces are
tried, on each at most two edges, and the minimum on an edge is a clamp. This finds the best of 6 faces, 12 edges and 8
corners without visiting most of them.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, b1, f4, f8, i4, kernel, u1, u8
from helix4d.voxelize.kernels.vector_kernels import lowest_bit, prefetch

BATCH = 512
"""Voxels that are solved together."""


@kernel(
    f8, array(i4, 1), array(i4, 2), array(u8, 2), array(f4, 2), array(f4, 2), array(u1, 1),
    array(i4, 2, True), array(f4, 2, True), array(b1, 2, True), array(u1, 2, True), array(u1, 2, True),
)  # fmt: skip
def emit_voxels(regularization, top, table, masks, sums, colors, flags, coords, dual, intersected, base_color, surface):
    """Write coords (N, 3) int32, dual (N, 3) float32, intersected (N, 3) bool, base_color (N, 3) uint8.

    surface (3, N) uint8 is metallic, roughness and alpha. Voxels are solved in batches, column by column, so that the
    loops over a batch become vector instructions.
    """
    slots, codes = np.empty(BATCH + 512, np.int32), np.empty(BATCH + 512, np.int32)
    quadrics = np.empty((10, BATCH + 16), np.float32)  # not a power of two: rows would share sets of the cache
    shades = np.empty((7, BATCH + 16), np.float32)
    points = np.empty((3, BATCH + 16))
    digits = np.empty(512, np.int32)
    for code in range(512):
        digits[code] = _compact(code >> 2) << 20 | _compact(code >> 1) << 10 | _compact(code)
    n, waiting = 0, 0
    for place in range(len(top)):
        brick = top[place]
        if brick > 0:
            for k in range(8):
                word = masks[brick, k]
                while word != np.uint64(0):
                    cell = k << 6 | lowest_bit(word)
                    word &= word - np.uint64(1)
                    slots[waiting] = table[brick, cell]
                    codes[waiting] = place << 9 | cell
                    prefetch(sums, np.int64(slots[waiting]))
                    if len(colors) > 0:
                        prefetch(colors, np.int64(slots[waiting]))
                    waiting += 1
        while waiting >= BATCH or (waiting > 0 and place == len(top) - 1):
            count = min(waiting, BATCH)
            _solve(count, slots, sums, regularization, quadrics, points)
            for i in range(count):
                slot, code = slots[i], codes[i]
                here = digits[code & 511] | digits[(code >> 9) & 511] << 3
                here |= digits[(code >> 18) & 511] << 6 | digits[code >> 27 & 7] << 9
                coords[n + i, 0], coords[n + i, 1], coords[n + i, 2] = here >> 20, (here >> 10) & 1023, here & 1023
                flag = flags[slot]
                intersected[n + i, 0] = (flag & 1) != 0
                intersected[n + i, 1] = (flag & 2) != 0
                intersected[n + i, 2] = (flag & 4) != 0
                for axis in range(3):
                    dual[n + i, axis] = points[axis, i] + 0.5
            if len(colors) > 0:
                _average(count, slots, colors, shades, points[0], base_color[n:], surface[:, n:])
            n += count
            waiting -= count
            for i in range(waiting):
                slots[i], codes[i] = slots[count + i], codes[count + i]


@kernel()
def _solve(count, slots, sums, regularization, quadrics, points):
    """Write the dual vertices of a batch to points (3, >= count); quadrics (10, >= count) is scratch space."""
    for i in range(count):
        slot = slots[i]
        for k in range(10):
            quadrics[k, i] = sums[slot, k]
    bx, by, bz, crossings = quadrics[0], quadrics[1], quadrics[2], quadrics[3]
    xx, xy, xz, yy, yz, zz = quadrics[4], quadrics[5], quadrics[6], quadrics[7], quadrics[8], quadrics[9]
    px, py, pz = points[0], points[1], points[2]
    for i in range(count):
        diagonal = regularization * crossings[i]
        px[i], py[i], pz[i] = _free_minimum(
            float(xx[i]) + diagonal,
            float(xy[i]),
            float(xz[i]),
            float(yy[i]) + diagonal,
            float(yz[i]),
            float(zz[i]) + diagonal,
            float(bx[i]),
            float(by[i]),
            float(bz[i]),
        )
    for i in range(count):
        if not (abs(px[i]) <= 0.5 and abs(py[i]) <= 0.5 and abs(pz[i]) <= 0.5):
            px[i], py[i], pz[i] = _box_minimum(sums, slots[i], regularization)


@kernel()
def _average(count, slots, colors, shades, inverses, base_color, surface):
    """Write the weighted mean of each attribute; shades (7, >= count) and inverses (>= count,) are scratch space."""
    for i in range(count):
        slot = slots[i]
        for k in range(7):
            shades[k, i] = colors[slot, k]
    weights = shades[6]
    for i in range(count):
        inverses[i] = 255.0 / float(weights[i])
    for k in range(3):
        shade, other, row = shades[k], shades[3 + k], surface[k]
        for i in range(count):
            base_color[i, k] = _byte(shade[i], inverses[i])
        for i in range(count):
            row[i] = _byte(other[i], inverses[i])


@kernel()
def _byte(total, inverse):
    # 1e-3 keeps rounding of the weighted mean from truncating a constant 255 to 254.
    return np.uint8(np.int32(min(max(float(total) * inverse + 1e-3, 0.0), 255.0)))


@kernel()
def _compact(code):
    """Gather every third bit of a Morton code."""
    x = 0
    for bit in range(11):
        x |= ((code >> (3 * bit)) & 1) << bit
    return x


@kernel()
def _free_minimum(xx, xy, xz, yy, yz, zz, bx, by, bz):
    """The minimum of x^T A x - 2 b^T x in closed form; not finite if A is singular."""
    cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * cxx + xy * cxy + xz * cxz
    cyy, cyz, czz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    inverse = 1.0 / determinant
    x = (cxx * bx + cxy * by + cxz * bz) * inverse
    y = (cxy * bx + cyy * by + cyz * bz) * inverse
    z = (cxz * bx + cyz * by + czz * bz) * inverse
    return x, y, z


@kernel()
def _box_minimum(sums, slot, regularization):
    """The minimum of x^T A x - 2 b^T x over [-0.5, 0.5]^3."""
    bx, by, bz = float(sums[slot, 0]), float(sums[slot, 1]), float(sums[slot, 2])
    diagonal = regularization * sums[slot, 3]
    xx, xy, xz = float(sums[slot, 4]) + diagonal, float(sums[slot, 5]), float(sums[slot, 6])
    yy, yz, zz = float(sums[slot, 7]) + diagonal, float(sums[slot, 8]), float(sums[slot, 9]) + diagonal
    x, y, z = _free_minimum(xx, xy, xz, yy, yz, zz, bx, by, bz)
    if abs(x) <= 0.5 and abs(y) <= 0.5 and abs(z) <= 0.5:
        return x, y, z
    # Rank-deficient without regularization: the division gave NaN, so every face is tried.
    free = not (abs(x) < np.inf and abs(y) < np.inf and abs(z) < np.inf)
    best = np.inf
    rx = ry = rz = 0.0
    for side in (-0.5, 0.5):
        if free or 2.0 * side * x > 0.5:
            p, q = _square_minimum(yy, yz, zz, by - xy * side, bz - xz * side)
            value = _value(xx, xy, xz, yy, yz, zz, bx, by, bz, side, p, q)
            if value < best:
                best, rx, ry, rz = value, side, p, q
        if free or 2.0 * side * y > 0.5:
            p, q = _square_minimum(xx, xz, zz, bx - xy * side, bz - yz * side)
            value = _value(xx, xy, xz, yy, yz, zz, bx, by, bz, p, side, q)
            if value < best:
                best, rx, ry, rz = value, p, side, q
        if free or 2.0 * side * z > 0.5:
            p, q = _square_minimum(xx, xy, yy, bx - xz * side, by - yz * side)
            value = _value(xx, xy, xz, yy, yz, zz, bx, by, bz, p, q, side)
            if value < best:
                best, rx, ry, rz = value, p, q, side
    return rx, ry, rz


@kernel()
def _square_minimum(pp, pq, qq, bp, bq):
    """The minimum of a quadratic over [-0.5, 0.5]^2."""
    determinant = pp * qq - pq * pq
    p = (qq * bp - pq * bq) / determinant
    q = (pp * bq - pq * bp) / determinant
    if abs(p) <= 0.5 and abs(q) <= 0.5:
        return p, q
    free = not (abs(p) < np.inf and abs(q) < np.inf)
    best = np.inf
    rp = rq = 0.0
    for side in (-0.5, 0.5):
        if free or 2.0 * side * p > 0.5:
            other = _clamped(bq - pq * side, qq)
            value = pp * side * side + 2.0 * pq * side * other + qq * other * other - 2.0 * (bp * side + bq * other)
            if value < best:
                best, rp, rq = value, side, other
        if free or 2.0 * side * q > 0.5:
            other = _clamped(bp - pq * side, pp)
            value = pp * other * other + 2.0 * pq * side * other + qq * side * side - 2.0 * (bp * other + bq * side)
            if value < best:
                best, rp, rq = value, other, side
    return rp, rq


@kernel()
def _clamped(b, a):
    """The minimum of a x^2 - 2 b x over [-0.5, 0.5]."""
    if a <= 0.0:
        return 0.0 if b == 0.0 else (0.5 if b > 0.0 else -0.5)
    return min(max(b / a, -0.5), 0.5)


@kernel()
def _value(xx, xy, xz, yy, yz, zz, bx, by, bz, x, y, z):
    return (
        x * (xx * x + 2.0 * (xy * y + xz * z - bx))
        + y * (yy * y + 2.0 * (yz * z - by))
        + z * (zz * z - 2.0 * bz)
    )  # fmt: skip
