"""Adds the triangles of a mesh to the accumulators of the voxels that they touch, in one pass.

Shapes: vertices (V, 3) float32, faces (F, 3) int32, spread (3, side) int32, top (bricks of the cube,) int32 in Morton
order, table (B, 512) int32 slots in Morton order, masks (B, 8) uint64 with a bit for each voxel with a crossing in that
order, sums (N, 12) float32, colors (N, 8) float32, flags (N,) uint8.
Brick 0 and slot 0 are never used, so that 0 means none. Lengths are in voxels, and positions in a voxel are relative to
its center, so that float32 is precise enough for the sums at any resolution.
A row of sums is (b_x, b_y, b_z, crossings, A_xx, A_xy, A_xz, A_yy, A_yz, A_zz, two unused) of the quadric
x^T A x - 2 b^T x without its regularizer's diagonal.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from helix4d.voxelize.kernels.compilation import array, f4, f8, i4, i8, kernel, u1, u4, u8
from helix4d.voxelize.kernels.texture_kernels import sample_material, setup_material
from helix4d.voxelize.kernels.vector_kernels import add_crossing, add_plane, choose

FINISHED = -1
OUTSIDE = -2
"""Results of `scatter_triangles` besides the position of the triangle at which it ran out of room."""

BRICKS, SLOTS, BAD_FACE = 0, 1, 2
"""Indices into `state`: bricks and slots in use (both count the unused first one), and the face that is outside."""

BLOCK = 14
"""Voxels per side of a block. It has a border of one voxel, so a cell's y and z are digits of four bits."""
STEP_X = 260
"""Cells from one x to the next: four more than needed, so that cells of a plane x, y share few sets of the cache."""
CELLS = 16 * STEP_X
OVERLAP, CROSSING = 8, 16
"""Parts of a cell's last number: 1, 2, 4 for its crossed edges, 8 if it is overlapped, and 16 for each crossing."""


@kernel(
    i8, array(i4, 1), array(f4, 2), array(i4, 2), i8, f8, f8, f8, array(i4, 2), array(i4, 1, True),
    array(i4, 2, True), array(u8, 2, True), array(f4, 2, True), array(f4, 2, True), array(u1, 1, True),
    array(i8, 1, True), array(f4, 4),
    array(f4, 3), array(i4, 1), array(i8, 2), array(f8, 2), array(f8, 2), array(u4, 1),
)  # fmt: skip
def scatter_triangles(
    start,
    order,
    vertices,
    faces,
    resolution,
    scale,
    face_weight,
    regularization,
    spread,
    top,
    table,
    masks,
    sums,
    colors,
    flags,
    state,
    uvs,
    corner_colors,
    material_ids,
    materials,
    transforms,
    factors,
    texels,
):
    """Scatter faces[order[start:]]; returns FINISHED, OUTSIDE, or the position in `order` where space ran out.

    In the last case the caller enlarges `table` or `sums` and continues from that position. Attributes are sampled if
    `colors` is not empty.

    A triangle is processed in blocks of at most 14^3 voxels (one block, if it is small). In a block, crossings and
    overlaps are first collected per cell, then each touched cell is looked up in the grid once.

    `scale` is from `helix4d.voxelize.convert.grid.grid_scale`. Overlaps are tested with a tolerance of the difference
    between `scale` and the resolution, which the official float32 divisions round away there, but not for crossings.
    """
    tolerance = 1.5 * abs(scale - float(resolution))
    half = np.float32(0.5)
    zero, eight = np.float32(0.0), np.float32(OVERLAP)
    reg = np.float32(regularization)
    last = resolution - 1
    with_attributes = len(colors) > 0
    t = np.empty((3, 3))
    normal = np.empty(3)
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    box_low = np.empty(3, np.int64)  # first voxel of overlaps and last line of crossings; low and high without ties
    line_high = np.empty(3, np.int64)
    edge = np.empty((9, 3))  # projections ab, then ca, then bc: E(p, q) = edge[0] p + edge[1] q + edge[2] >= 0
    setup = np.empty(48)
    points = np.zeros((CELLS, 4), np.float32)
    sides = crossing_steps()
    plane = np.zeros(12, np.float32)
    touched = np.empty(CELLS + 1, np.int32)
    hits = np.empty(4096, np.int32)
    hit_points = np.empty((4096, 4), np.float32)
    values = np.empty((4096, 8), np.float32)
    lanes = np.empty((4096, 8), np.int32)
    tint = np.empty(8, np.float32)
    steps = (STEP_X, 16, 1)
    block_low = np.empty(3, np.int64)
    block_high = np.empty(3, np.int64)
    bricks, slots = state[BRICKS], state[SLOTS]
    result = FINISHED
    for turn in range(start, len(order)):
        f = order[turn]
        inside = True
        for corner in range(3):
            vertex = faces[f, corner]
            for axis in range(3):
                position = float(vertices[vertex, axis] + half)
                inside = inside and position >= 0.0 and position <= 1.0
                t[corner, axis] = position * scale
        if not inside:
            state[BAD_FACE] = f
            result = OUTSIDE
            break
        nx, ny, nz, offset = triangle_plane(t)
        if nx == 0.0 and ny == 0.0 and nz == 0.0:
            continue
        normal[0], normal[1], normal[2] = nx, ny, nz
        for axis in range(3):
            least, most = min(t[0, axis], t[1, axis], t[2, axis]), max(t[0, axis], t[1, axis], t[2, axis])
            low[axis], box_low[axis] = min(int(least), last), min(int(least + tolerance), last)
            line_high[axis], high[axis] = min(int(most), last), min(int(most + tolerance), last)

        # The dominant axis: a column of voxels along it meets the plane in at most five of them.
        main = dominant_axis(normal)
        mb, mc = (main + 1) % 3, (main + 2) % 3
        columns = (high[mb] - low[mb] + 1) * (high[mc] - low[mc] + 1)
        deep = min(high[main] - low[main] + 1, 5)
        brick_columns = ((high[mb] >> 3) - (low[mb] >> 3) + 1) * ((high[mc] >> 3) - (low[mc] >> 3) + 1)
        brick_deep = min((high[main] >> 3) - (low[main] >> 3) + 1, 5)
        if slots + columns * deep > len(sums) or bricks + brick_columns * brick_deep > len(table):
            result = turn
            break

        # Edge functions of the projections, shifted so that they are evaluated at a cell's minimum corner.
        for projection in range(3):
            p, q = (main, mb) if projection == 0 else ((mc, main) if projection == 1 else (mb, mc))
            sign = 1.0 if normal[3 - p - q] >= 0.0 else -1.0
            for corner in range(3):
                after = corner + 1 if corner < 2 else 0
                ep = (t[corner, q] - t[after, q]) * sign
                eq = (t[after, p] - t[corner, p]) * sign
                row = 3 * projection + corner
                edge[row, 0] = ep
                edge[row, 1] = eq
                edge[row, 2] = max(ep, 0.0) + max(eq, 0.0) - (ep * t[corner, p] + eq * t[corner, q])
                edge[row, 2] += tolerance * (abs(ep) + abs(eq))
        inverse = 1.0 / normal[main]
        span = 0.5 * (abs(nx) + abs(ny) + abs(nz)) * abs(inverse) + 3.0 * tolerance
        plane[0], plane[1], plane[2], plane[3] = nx, ny, nz, 1.0
        plane[4], plane[5], plane[6] = nx * nx, nx * ny, nx * nz
        plane[7], plane[8], plane[9] = ny * ny, ny * nz, nz * nz
        sampled = False  # the material is set up at the first crossing, which many small triangles lack
        single = high[0] - low[0] < BLOCK and high[1] - low[1] < BLOCK and high[2] - low[2] < BLOCK

        for c_start in range(low[mc], high[mc] + 1, BLOCK):
            c_stop = min(c_start + BLOCK - 1, high[mc])
            for b_start in range(low[mb], high[mb] + 1, BLOCK):
                b_stop = min(b_start + BLOCK - 1, high[mb])
                a_first, a_last = low[main], high[main]
                if not single:
                    outside = False
                    for row in range(6, 9):
                        reach = edge[row, 2] + max(edge[row, 0] * b_start, edge[row, 0] * b_stop)
                        outside = outside or reach + max(edge[row, 1] * c_start, edge[row, 1] * c_stop) < -1e-9
                    if outside:
                        continue
                    # Range of the plane over the block, from the extremes of a linear function.
                    flat_b0, flat_b1 = normal[mb] * b_start, normal[mb] * (b_stop + 1)
                    flat_c0, flat_c1 = normal[mc] * c_start, normal[mc] * (c_stop + 1)
                    at0 = -(offset + max(flat_b0, flat_b1) + max(flat_c0, flat_c1)) * inverse
                    at1 = -(offset + min(flat_b0, flat_b1) + min(flat_c0, flat_c1)) * inverse
                    a_first = max(a_first, math.floor(min(at0, at1) - 1e-6 - 3.0 * tolerance))
                    a_last = min(a_last, math.floor(max(at0, at1) + 1e-6 + 3.0 * tolerance))
                for a_start in range(a_first, a_last + 1, BLOCK):
                    a_stop = min(a_start + BLOCK - 1, a_last)
                    block_low[main], block_low[mb], block_low[mc] = a_start, b_start, c_start
                    block_high[main], block_high[mb], block_high[mc] = a_stop, b_stop, c_stop
                    count = 0

                    for a in range(3):
                        b = a + 1 if a < 2 else 0
                        c = b + 1 if b < 2 else 0
                        # Lines between rows i and i + 1 and columns j and j + 1, including the block's border.
                        row_first, row_stop = max(low[c], block_low[c] - 1), min(line_high[c], block_high[c] + 1)
                        column_first = max(low[b], block_low[b] - 1)
                        column_stop = min(line_high[b], block_high[b] + 1)
                        if row_first >= row_stop or column_first >= column_stop:
                            continue
                        i0, i1, i2 = corner_order(t, c)
                        middle = min(int(t[i1, c]), last)
                        a0, b0, c0 = t[i0, a], t[i0, b], t[i0, c]
                        a1, b1, c1 = t[i1, a], t[i1, b], t[i1, c]
                        a2, b2, c2 = t[i2, a], t[i2, b], t[i2, c]
                        step_a, step_b, step_c = steps[a], steps[b], steps[c]
                        k_low, k_high = low[a], line_high[a]
                        block_a, block_a_stop = block_low[a], block_high[a]
                        for row in range(row_first, row_stop):
                            # The line at c = row + 1 crosses the long edge at q and the short one of this half at p.
                            y = float(row + 1)
                            if row < middle:
                                s = (y - c0) / (c1 - c0)
                                pb, pa = (1.0 - s) * b0 + s * b1, (1.0 - s) * a0 + s * a1
                                s = (y - c0) / (c2 - c0)
                                qb, qa = (1.0 - s) * b0 + s * b2, (1.0 - s) * a0 + s * a2
                            else:
                                s = (y - c2) / (c1 - c2)
                                pb, pa = (1.0 - s) * b2 + s * b1, (1.0 - s) * a2 + s * a1
                                s = (y - c2) / (c0 - c2)
                                qb, qa = (1.0 - s) * b2 + s * b0, (1.0 - s) * a2 + s * a0
                            slope = (qa - pa) / (qb - pb)  # independent of the order of the ends
                            swap = pb > qb
                            pb, qb, pa = choose(swap, qb, pb), choose(swap, pb, qb), choose(swap, qa, pa)
                            first = max(int(pb), column_first)
                            stop = min(int(qb), column_stop)
                            for column in range(first, stop):
                                z = pa + (float(column + 1) - pb) * slope
                                k = min(max(int(z), k_low), k_high)
                                if k < block_a or k > block_a_stop:
                                    continue
                                cell = (
                                    (k - block_a + 1) * step_a
                                    + (column - block_low[b] + 1) * step_b
                                    + (row - block_low[c] + 1) * step_c
                                )
                                along = np.float32(z - float(k) - 0.5)
                                count = add_crossing(points, cell, step_b, step_c, sides, a, along, touched, count)

                    if face_weight != 0.0:
                        # Boxes that the triangle overlaps, from plane and three projections (Schwarz and Seidel 2010).
                        a_box, b_box = max(a_start, box_low[main]), max(b_start, box_low[mb])
                        step_a, step_b, step_c = steps[main], steps[mb], steps[mc]
                        for i in range(max(c_start, box_low[mc]), c_stop + 1):
                            y = float(i)
                            s6 = edge[6, 1] * y + edge[6, 2]
                            s7 = edge[7, 1] * y + edge[7, 2]
                            s8 = edge[8, 1] * y + edge[8, 2]
                            s3 = edge[3, 0] * y + edge[3, 2]
                            s4 = edge[4, 0] * y + edge[4, 2]
                            s5 = edge[5, 0] * y + edge[5, 2]
                            row_rest = normal[mc] * (y + 0.5) + offset
                            row_cell = (i - c_start + 1) * step_c + step_a + step_b
                            for j in range(b_box, b_stop + 1):
                                x = float(j)
                                worst = min(edge[6, 0] * x + s6, edge[7, 0] * x + s7, edge[8, 0] * x + s8)
                                if worst < 0.0:
                                    continue
                                s0 = edge[0, 1] * x + edge[0, 2]
                                s1 = edge[1, 1] * x + edge[1, 2]
                                s2 = edge[2, 1] * x + edge[2, 2]
                                center = -(normal[mb] * (x + 0.5) + row_rest) * inverse - 0.5
                                k_first = max(math.ceil(center - span), a_box)
                                k_last = min(math.floor(center + span), a_stop)
                                here = row_cell + (j - b_start) * step_b + (k_first - a_start) * step_a
                                for k in range(k_first, k_last + 1):
                                    z = float(k)
                                    worst = min(edge[0, 0] * z + s0, edge[1, 0] * z + s1, edge[2, 0] * z + s2)
                                    worst = min(worst, edge[3, 1] * z + s3, edge[4, 1] * z + s4, edge[5, 1] * z + s5)
                                    overlaps = worst >= 0.0
                                    before = points[here, 3]
                                    touched[count] = here
                                    count += overlaps & (before == 0.0)
                                    points[here, 3] = before + (eight if overlaps else zero)
                                    here += step_a

                    x_origin, y_origin, z_origin = block_low[0] - 1, block_low[1] - 1, block_low[2] - 1
                    x_size = block_high[0] - x_origin
                    y_size = block_high[1] - y_origin
                    z_size = block_high[2] - z_origin
                    hit = 0
                    for n in range(count):
                        cell = touched[n]
                        info = np.int64(points[cell, 3])
                        rest = cell % STEP_X
                        dx, dy, dz = cell // STEP_X, rest >> 4, rest & 15
                        if (dx - 1 | dy - 1 | dz - 1 | x_size - dx | y_size - dy | z_size - dz) < 0:
                            # Belongs to a neighboring block.
                            points[cell, 0] = points[cell, 1] = points[cell, 2] = points[cell, 3] = zero
                            continue
                        x, y, z = x_origin + dx, y_origin + dy, z_origin + dz
                        code = (spread[0, x & 1023] | spread[1, y & 1023] | spread[2, z & 1023]) & 0x3FFFFFFF
                        place = code >> 9
                        brick = top[place]
                        if brick == 0:
                            brick = bricks
                            bricks += 1
                            top[place] = brick
                            for k in range(512):
                                table[brick, k] = 0
                            for k in range(8):
                                masks[brick, k] = np.uint64(0)
                        slot = table[brick, code & 511]
                        if slot == 0:
                            slot = slots
                            slots += 1
                            table[brick, code & 511] = slot
                            for k in range(12):
                                sums[slot, k] = zero
                            flags[slot] = 0
                            if with_attributes:
                                for k in range(8):
                                    colors[slot, k] = zero
                        crossings = info >> 4
                        distance = nx * (x + 0.5) + ny * (y + 0.5) + nz * (z + 0.5) + offset
                        weight = np.float32(crossings)
                        if info & OVERLAP:
                            weight += np.float32(face_weight)
                        toward = -weight * np.float32(distance)
                        add_plane(sums, slot, points, cell, plane, toward, np.float32(crossings), weight, reg)
                        points[cell, 0] = points[cell, 1] = points[cell, 2] = points[cell, 3] = zero
                        if crossings == 0:
                            continue
                        masks[brick, (code >> 6) & 7] |= np.uint64(1) << np.uint64(code & 63)
                        flags[slot] |= info & 7
                        if with_attributes:
                            hits[hit] = slot
                            hit_points[hit, 0] = x + 0.5 - t[0, 0]
                            hit_points[hit, 1] = y + 0.5 - t[0, 1]
                            hit_points[hit, 2] = z + 0.5 - t[0, 2]
                            hit_points[hit, 3] = 1.0 - distance / scale
                            hit += 1
                    if hit > 0:
                        if not sampled:
                            sampled = True
                            setup_material(
                                f, t, uvs, corner_colors, material_ids, materials, transforms, factors, setup
                            )
                        material = np.int64(material_ids[f])
                        sample_material(
                            np.int64(hit),
                            hits,
                            hit_points,
                            setup,
                            material,
                            materials,
                            texels,
                            lanes,
                            values,
                            tint,
                            colors,
                        )
    state[BRICKS], state[SLOTS] = bricks, slots
    return result


@kernel()
def crossing_steps():
    """(3, 5, 4) float32 for `add_crossing`: for a crossing along each axis the steps of its four cells, and its axis.

    The crossing is at the maximum corner of the first cell, in both other axes, and names that cell's edge.
    """
    sides = np.zeros((3, 5, 4), np.float32)
    for a in range(3):
        for corner in range(4):
            sides[a, corner, (a + 1) % 3] = -0.5 if corner & 2 else 0.5
            sides[a, corner, (a + 2) % 3] = -0.5 if corner & 1 else 0.5
            sides[a, corner, 3] = CROSSING
        sides[a, 0, 3] += 1 << a
        sides[a, 4, a] = 1.0
    return sides


@kernel()
def triangle_plane(t):
    """Unit normal n and offset d of a triangle (3, 3), n·x + d = 0; four zeros for one without area."""
    ux, uy, uz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    vx, vy, vz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(nx * nx + ny * ny + nz * nz)
    if not length > 0.0:
        return 0.0, 0.0, 0.0, 0.0
    nx, ny, nz = nx / length, ny / length, nz / length
    return nx, ny, nz, -(nx * t[0, 0] + ny * t[0, 1] + nz * t[0, 2])


@kernel()
def dominant_axis(normal):
    """The axis along which a normal is largest; of equal ones the first."""
    axis = 0
    if abs(normal[1]) > abs(normal[0]):
        axis = 1
    if abs(normal[2]) > abs(normal[axis]):
        axis = 2
    return axis


@kernel()
def corner_order(t, axis):
    """The corners of a triangle (3, 3) by ascending coordinate along an axis."""
    first, second, third = t[0, axis], t[1, axis], t[2, axis]
    swap = second < first
    i0, i1, i2 = (1 if swap else 0), (0 if swap else 1), 2
    low, middle = (second if swap else first), (first if swap else second)
    swap = third < middle
    i1, i2, middle = (2 if swap else i1), (i1 if swap else 2), (third if swap else middle)
    swap = middle < low
    return (i1 if swap else i0), (i0 if swap else i1), i2
