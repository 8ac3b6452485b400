"""Converts accumulators to voxels in Morton order: the dual vertex minimizes the quadric within its voxel.

If the free minimum of a strictly convex quadratic violates some bounds of a box, its constrained minimum is on one of
the violated faces (otherwise a step toward the free minimum would be feasible and lower). So at most three faces are
tried, on each at most two edges, and the minimum on an edge is a clamp. This finds the best of 6 faces, 12 edges and 8
corners without visiting most of them.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, b1, f4, f8, i4, kernel, u1


@kernel(
    f8, array(i4, 1), array(i4, 2), array(f4, 2), array(f4, 2), array(u1, 1),
    array(i4, 2, True), array(f4, 2, True), array(b1, 2, True), array(u1, 2, True), array(u1, 2, True),
)  # fmt: skip
def emit_voxels(regularization, top, table, sums, colors, flags, coords, dual, intersected, base_color, surface):
    """Write coords (N, 3) int32, dual (N, 3) float32, intersected (N, 3) bool, base_color (N, 3) uint8.

    surface (3, N) uint8 is metallic, roughness and alpha.
    """
    with_attributes = len(colors) > 0
    n = 0
    for place in range(len(top)):
        brick = top[place]
        if brick == 0:
            continue
        bx, by, bz = _compact(place >> 2) * 8, _compact(place >> 1) * 8, _compact(place) * 8
        for cell in range(512):
            slot = table[brick, cell]
            if slot == 0 or sums[slot, 3] == 0.0:
                continue
            coords[n, 0] = bx + (((cell >> 8) & 1) << 2 | ((cell >> 5) & 1) << 1 | ((cell >> 2) & 1))
            coords[n, 1] = by + (((cell >> 7) & 1) << 2 | ((cell >> 4) & 1) << 1 | ((cell >> 1) & 1))
            coords[n, 2] = bz + (((cell >> 6) & 1) << 2 | ((cell >> 3) & 1) << 1 | (cell & 1))
            flag = flags[slot]
            intersected[n, 0] = (flag & 1) != 0
            intersected[n, 1] = (flag & 2) != 0
            intersected[n, 2] = (flag & 4) != 0
            x, y, z = _box_minimum(sums, slot, regularization)
            dual[n, 0] = x + 0.5
            dual[n, 1] = y + 0.5
            dual[n, 2] = z + 0.5
            if with_attributes:
                inverse = 255.0 / float(colors[slot, 6])
                for k in range(6):
                    # 1e-3 keeps rounding of the weighted mean from truncating a constant 255 to 254.
                    value = float(colors[slot, k]) * inverse + 1e-3
                    byte = np.uint8(min(max(value, 0.0), 255.0))
                    if k < 3:
                        base_color[n, k] = byte
                    else:
                        surface[k - 3, n] = byte
            n += 1


@kernel()
def _compact(code):
    """Gather every third bit of a Morton code."""
    x = 0
    for bit in range(11):
        x |= ((code >> (3 * bit)) & 1) << bit
    return x


@kernel()
def _box_minimum(sums, slot, regularization):
    """The minimum of x^T A x - 2 b^T x over [-0.5, 0.5]^3."""
    bx, by, bz = float(sums[slot, 0]), float(sums[slot, 1]), float(sums[slot, 2])
    diagonal = regularization * sums[slot, 3]
    xx, xy, xz = float(sums[slot, 4]) + diagonal, float(sums[slot, 5]), float(sums[slot, 6])
    yy, yz, zz = float(sums[slot, 7]) + diagonal, float(sums[slot, 8]), float(sums[slot, 9]) + diagonal
    cxx, cxy, cxz = yy * zz - yz * yz, xz * yz - xy * zz, xy * yz - xz * yy
    determinant = xx * cxx + xy * cxy + xz * cxz
    cyy, cyz, czz = xx * zz - xz * xz, xy * xz - xx * yz, xx * yy - xy * xy
    inverse = 1.0 / determinant
    x = (cxx * bx + cxy * by + cxz * bz) * inverse
    y = (cxy * bx + cyy * by + cyz * bz) * inverse
    z = (cxz * bx + cyz * by + czz * bz) * inverse
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
