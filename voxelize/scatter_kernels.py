"""One pass over the triangles of a mesh into the accumulators of the voxels that they touch.

Shapes: vertices (V, 3) float32, faces (F, 3) int32, spread (3, side) int32, top (bricks of the cube,) int32 in Morton
order, table (B, 512) int32 slots in Morton order, sums (N, 12) float32, colors (N, 8) float32, flags (N,) uint8,
stamps (N,) int32. Brick 0 and slot 0 are never used, so that zero means "none". Lengths are in voxels and positions
in a voxel are relative to its center, which is what lets float32 hold the sums at any resolution.
A row of sums is (b_x, b_y, b_z, crossings, A_xx, A_xy, A_xz, A_yy, A_yz, A_zz, area, unused) of the quadric
x^T A x - 2 b^T x without its regularizer's diagonal.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np
from numba import njit

from voxelize.texture_kernels import sample_material, setup_material

FINISHED = -1
OUTSIDE = -2
"""Values of `scatter_triangles` besides the triangle at which it ran out of room."""

BRICKS, SLOTS, BAD_FACE = 0, 1, 2
"""Places in `state`: bricks in use, slots in use (both counting the unused first), and the face that is outside."""


@njit(cache=True, nogil=True, error_model="numpy")
def find_or_add(code, top, table, sums, colors, flags, stamps, state):
    """The slot of the voxel with this Morton code, made and zeroed if it is new."""
    place = code >> 9
    brick = top[place]
    if brick == 0:
        brick = state[BRICKS]
        state[BRICKS] = brick + 1
        top[place] = brick
        for cell in range(512):
            table[brick, cell] = 0
    slot = table[brick, code & 511]
    if slot == 0:
        slot = state[SLOTS]
        state[SLOTS] = slot + 1
        table[brick, code & 511] = slot
        for k in range(12):
            sums[slot, k] = 0.0
        flags[slot] = 0
        if len(colors):
            stamps[slot] = -1
            for k in range(8):
                colors[slot, k] = 0.0
    return slot


@njit(cache=True, nogil=True, error_model="numpy")
def _add_plane(sums, slot, weight, distance, quadric):
    """Add weight * (plane of the triangle)^2; quadric is (n_x, n_y, n_z, 0, n_x n_x, n_x n_y, ..., n_z n_z)."""
    toward = -weight * distance
    sums[slot, 0] += toward * quadric[0]
    sums[slot, 1] += toward * quadric[1]
    sums[slot, 2] += toward * quadric[2]
    for k in range(4, 10):
        sums[slot, k] += weight * quadric[k]


@njit(cache=True, nogil=True, error_model="numpy")
def scatter_triangles(
    start,
    vertices,
    faces,
    resolution,
    face_weight,
    regularization,
    spread,
    top,
    table,
    sums,
    colors,
    flags,
    stamps,
    state,
    uvs,
    corner_colors,
    material_ids,
    materials,
    transforms,
    factors,
    texels,
):
    """Scatter faces[start:]; returns FINISHED, OUTSIDE, or the face for which there is not enough room left.

    A caller that gets a face back enlarges `table` or `sums` and calls again from there. Attributes are sampled
    where `colors` is not empty.
    """
    scale = float(resolution)
    half = np.float32(0.5)
    last = resolution - 1
    with_attributes = len(colors) > 0
    t = np.empty((3, 3))
    normal = np.empty(3)
    low = np.empty(3, np.int64)
    high = np.empty(3, np.int64)
    quadric = np.empty(12, np.float32)
    edge = np.empty((9, 3))  # projections ab, then ac, then bc: E(p, q) = edge[0] p + edge[1] q + edge[2] >= 0
    setup = np.empty(48)
    m = np.empty(3)
    for f in range(start, len(faces)):
        inside = True
        for corner in range(3):
            for axis in range(3):
                position = float(vertices[faces[f, corner], axis] + half)
                if not (position >= 0.0 and position <= 1.0):
                    inside = False
                t[corner, axis] = position * scale
        if not inside:
            state[BAD_FACE] = f
            return OUTSIDE
        ux, uy, uz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
        vx, vy, vz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
        normal[0] = uy * vz - uz * vy
        normal[1] = uz * vx - ux * vz
        normal[2] = ux * vy - uy * vx
        length = math.sqrt(normal[0] * normal[0] + normal[1] * normal[1] + normal[2] * normal[2])
        if not length > 0.0:
            continue  # no area, no plane
        for axis in range(3):
            normal[axis] /= length
            low[axis] = int(min(t[0, axis], t[1, axis], t[2, axis]))
            high[axis] = min(int(max(t[0, axis], t[1, axis], t[2, axis])), last)
            low[axis] = min(low[axis], last)
        offset = -(normal[0] * t[0, 0] + normal[1] * t[0, 1] + normal[2] * t[0, 2])

        # The dominant axis: a column of voxels along it meets the plane in at most five of them.
        main = 0
        if abs(normal[1]) > abs(normal[main]):
            main = 1
        if abs(normal[2]) > abs(normal[main]):
            main = 2
        b, c = (main + 1) % 3, (main + 2) % 3
        columns = (high[b] - low[b] + 1) * (high[c] - low[c] + 1)
        deep = min(high[main] - low[main] + 1, 5)
        brick_columns = ((high[b] >> 3) - (low[b] >> 3) + 1) * ((high[c] >> 3) - (low[c] >> 3) + 1)
        brick_deep = min((high[main] >> 3) - (low[main] >> 3) + 1, 5)
        if state[SLOTS] + columns * deep > len(sums) or state[BRICKS] + brick_columns * brick_deep > len(table):
            return f

        for axis in range(3):
            quadric[axis] = normal[axis]
        quadric[4] = normal[0] * normal[0]
        quadric[5] = normal[0] * normal[1]
        quadric[6] = normal[0] * normal[2]
        quadric[7] = normal[1] * normal[1]
        quadric[8] = normal[1] * normal[2]
        quadric[9] = normal[2] * normal[2]

        sampled = False  # the material is set up at the first crossing: many small triangles have none
        crossings = 0
        for a in range(3):
            b, c = (a + 1) % 3, (a + 2) % 3
            if low[b] == high[b] or low[c] == high[c]:
                continue
            # Corners by their c coordinate.
            i0, i1, i2 = 0, 1, 2
            if t[i1, c] < t[i0, c]:
                i0, i1 = i1, i0
            if t[i2, c] < t[i1, c]:
                i1, i2 = i2, i1
                if t[i1, c] < t[i0, c]:
                    i0, i1 = i1, i0
            middle = min(int(t[i1, c]), last)
            for row in range(low[c], high[c]):
                # The line at c = row + 1 leaves the long edge at p and the short one of this half at q.
                if row < middle:
                    e0, e1, e2 = i0, i1, i2
                else:
                    e0, e1, e2 = i2, i1, i0
                y = float(row + 1)
                s = (y - t[e0, c]) / (t[e1, c] - t[e0, c])
                pb, pa = (1.0 - s) * t[e0, b] + s * t[e1, b], (1.0 - s) * t[e0, a] + s * t[e1, a]
                s = (y - t[e0, c]) / (t[e2, c] - t[e0, c])
                qb, qa = (1.0 - s) * t[e0, b] + s * t[e2, b], (1.0 - s) * t[e0, a] + s * t[e2, a]
                if pb > qb:
                    pb, qb = qb, pb
                    pa, qa = qa, pa
                first = max(math.floor(pb), 0)
                stop = min(math.floor(qb), last)
                if first >= stop:
                    continue
                slope = (qa - pa) / (qb - pb)
                for column in range(first, stop):
                    z = pa + (float(column + 1) - pb) * slope
                    k = min(max(math.floor(z), low[a]), high[a])
                    crossings += 1
                    along = np.float32(regularization * (z - k - 0.5))
                    for dj in range(2):
                        for di in range(2):
                            j, i = column + dj, row + di
                            slot = find_or_add(
                                spread[a, k] | spread[b, j] | spread[c, i],
                                top, table, sums, colors, flags, stamps, state,
                            )  # fmt: skip
                            distance = normal[a] * (k + 0.5) + normal[b] * (j + 0.5) + normal[c] * (i + 0.5) + offset
                            _add_plane(sums, slot, np.float32(1.0), np.float32(distance), quadric)
                            sums[slot, a] += along
                            sums[slot, b] += np.float32(regularization * (0.5 - dj))
                            sums[slot, c] += np.float32(regularization * (0.5 - di))
                            sums[slot, 3] += np.float32(1.0)
                            if dj == 0 and di == 0:
                                flags[slot] |= 1 << a
                            if with_attributes and stamps[slot] != f:
                                stamps[slot] = f
                                if not sampled:
                                    sampled = True
                                    setup_material(
                                        f, t, normal, scale, uvs, corner_colors, material_ids, materials, transforms,
                                        factors, setup,
                                    )  # fmt: skip
                                m[a], m[b], m[c] = k + 0.5, j + 0.5, i + 0.5
                                sample_material(
                                    m[0] - t[0, 0], m[1] - t[0, 1], m[2] - t[0, 2], 1.0 - distance / scale,
                                    setup, material_ids[f], materials, texels, colors, slot,
                                )  # fmt: skip

        if face_weight == 0.0:
            continue
        # Boxes that the triangle overlaps: plane interval and three projections (Schwarz and Seidel 2010).
        a, b, c = main, (main + 1) % 3, (main + 2) % 3
        for projection in range(3):
            p, q, r = (a, b, c) if projection == 0 else ((c, a, b) if projection == 1 else (b, c, a))
            sign = 1.0 if normal[r] >= 0.0 else -1.0
            for corner in range(3):
                after = (corner + 1) % 3
                ep = -(t[after, q] - t[corner, q]) * sign
                eq = (t[after, p] - t[corner, p]) * sign
                row = 3 * projection + corner
                edge[row, 0] = ep
                edge[row, 1] = eq
                edge[row, 2] = -(ep * t[corner, p] + eq * t[corner, q]) + max(ep, 0.0) + max(eq, 0.0)
        reach = 0.5 * (abs(normal[0]) + abs(normal[1]) + abs(normal[2]))
        inverse = 1.0 / normal[a]
        span = reach * abs(inverse)
        touched = 0
        for i in range(low[c], high[c] + 1):
            left, right = float(low[b]), float(high[b])
            empty = False
            for row in range(6, 9):
                # e_b * j + e_c * i + e >= 0
                value = edge[row, 1] * i + edge[row, 2]
                slope = edge[row, 0]
                if slope > 0.0:
                    left = max(left, -value / slope)
                elif slope < 0.0:
                    right = min(right, -value / slope)
                elif value < 0.0:
                    empty = True
            if empty or not left <= right:
                continue
            for j in range(math.ceil(left), math.floor(right) + 1):
                rest = normal[b] * (j + 0.5) + normal[c] * (i + 0.5) + offset
                center = -rest * inverse - 0.5
                k_low = max(math.ceil(center - span), low[a])
                k_high = min(math.floor(center + span), high[a])
                for k in range(k_low, k_high + 1):
                    if (
                        edge[0, 0] * k + edge[0, 1] * j + edge[0, 2] < 0.0
                        or edge[1, 0] * k + edge[1, 1] * j + edge[1, 2] < 0.0
                        or edge[2, 0] * k + edge[2, 1] * j + edge[2, 2] < 0.0
                        or edge[3, 0] * i + edge[3, 1] * k + edge[3, 2] < 0.0
                        or edge[4, 0] * i + edge[4, 1] * k + edge[4, 2] < 0.0
                        or edge[5, 0] * i + edge[5, 1] * k + edge[5, 2] < 0.0
                    ):
                        continue
                    slot = find_or_add(
                        spread[a, k] | spread[b, j] | spread[c, i], top, table, sums, colors, flags, stamps, state
                    )
                    distance = rest + normal[a] * (k + 0.5)
                    _add_plane(sums, slot, np.float32(face_weight), np.float32(distance), quadric)
                    touched += 1
    return FINISHED


@njit(cache=True, nogil=True, error_model="numpy")
def scatter_boundary(vertices, edges, resolution, weight, spread, top, table, sums):
    """Add the line quadrics of boundary edges (E, 2) to the voxels in use on their walks through the grid."""
    scale = float(resolution)
    half = np.float32(0.5)
    last = resolution - 1
    start = np.empty(3)
    direction = np.empty(3)
    voxel = np.empty(3, np.int64)
    step = np.empty(3, np.int64)
    ahead = np.empty(3)
    between = np.empty(3)
    for e in range(len(edges)):
        length = 0.0
        for axis in range(3):
            start[axis] = float(vertices[edges[e, 0], axis] + half) * scale
            direction[axis] = float(vertices[edges[e, 1], axis] + half) * scale - start[axis]
            length += direction[axis] * direction[axis]
        length = math.sqrt(length)
        if length < 1e-6 * scale:
            continue
        for axis in range(3):
            direction[axis] /= length
            voxel[axis] = math.floor(start[axis])
            if direction[axis] > 0.0:
                step[axis] = 1
                ahead[axis] = (voxel[axis] + 1 - start[axis]) / direction[axis]
                between[axis] = 1.0 / direction[axis]
            elif direction[axis] < 0.0:
                step[axis] = -1
                ahead[axis] = (voxel[axis] - start[axis]) / direction[axis]
                between[axis] = -1.0 / direction[axis]
            else:
                step[axis] = 0
                ahead[axis] = np.inf
                between[axis] = np.inf
        dx, dy, dz = direction[0], direction[1], direction[2]
        while True:
            x, y, z = voxel[0], voxel[1], voxel[2]
            if 0 <= x <= last and 0 <= y <= last and 0 <= z <= last:
                code = spread[0, x] | spread[1, y] | spread[2, z]
                brick = top[code >> 9]
                slot = table[brick, code & 511] if brick > 0 else 0
                if slot > 0:
                    px, py, pz = start[0] - x - 0.5, start[1] - y - 0.5, start[2] - z - 0.5
                    along = px * dx + py * dy + pz * dz
                    sums[slot, 0] += np.float32(weight * (px - along * dx))
                    sums[slot, 1] += np.float32(weight * (py - along * dy))
                    sums[slot, 2] += np.float32(weight * (pz - along * dz))
                    sums[slot, 4] += np.float32(weight * (1.0 - dx * dx))
                    sums[slot, 5] -= np.float32(weight * dx * dy)
                    sums[slot, 6] -= np.float32(weight * dx * dz)
                    sums[slot, 7] += np.float32(weight * (1.0 - dy * dy))
                    sums[slot, 8] -= np.float32(weight * dy * dz)
                    sums[slot, 9] += np.float32(weight * (1.0 - dz * dz))
            axis = 0  # ties go to the later axis, as in TRELLIS.2
            if ahead[1] <= ahead[axis]:
                axis = 1
            if ahead[2] <= ahead[axis]:
                axis = 2
            if ahead[axis] > length:
                break
            voxel[axis] += step[axis]
            ahead[axis] += between[axis]
