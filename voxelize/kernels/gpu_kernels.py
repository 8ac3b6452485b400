"""The CUDA kernels: `mark` finds the active voxels, `accumulate` and `add_boundary` sum over them, `emit` solves.

Shapes as in scatter_kernels.py and gpu_count_kernels.py. Sums and colors are in units of 2^-36, so that they do not
depend on the order of additions. A voxel gathers a triangle's contribution over its own twelve edges, so no sorting is
needed. The CPU's functions serve for the walk along edges, the solver and the sampling. Multiplications and additions
that decide which voxels a triangle crosses or overlaps are neither fused nor reordered, so that they round as there.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math
from types import FunctionType

import numpy as np
from numba import float32, float64, int32, int64

from helix4d.voxelize.kernels import boundary_kernels, scatter_kernels, solve_kernels, texture_kernels
from helix4d.voxelize.kernels.compilation import SIMULATED
from helix4d.voxelize.kernels.cuda_target import cuda
from helix4d.voxelize.kernels.gpu_count_kernels import BAD_FACE, VOXELS

UNIT = 2.0**36


def _shared(module, name, **callees):
    """Make a device function from a CPU kernel; `callees` are the device functions that it calls."""
    function = getattr(module, name).py_func
    code = FunctionType(function.__code__, {**function.__globals__, **callees}, name, function.__defaults__)
    return cuda.jit(device=True)(code)


_dominant_axis = _shared(scatter_kernels, "dominant_axis")
_corner_order = _shared(scatter_kernels, "corner_order")
_start_walk = _shared(boundary_kernels, "start_walk")
_walk_on = _shared(boundary_kernels, "walk_on")
_clamped = _shared(solve_kernels, "_clamped")
_value = _shared(solve_kernels, "_value")
_square_minimum = _shared(solve_kernels, "_square_minimum", _clamped=_clamped)
_free_minimum = _shared(solve_kernels, "_free_minimum")
_box_minimum = _shared(
    solve_kernels, "_box_minimum", _free_minimum=_free_minimum, _square_minimum=_square_minimum, _value=_value
)
_compact = _shared(solve_kernels, "_compact")
_transformed = _shared(texture_kernels, "_transformed")
_setup_material = _shared(texture_kernels, "setup_material", _transformed=_transformed)


@cuda.jit(device=True)
def _add_bilinear(texels, t00, t01, t10, t11, w00, w01, w10, w11, lanes, n, first):
    """`vector_kernels.add_bilinear` as a loop."""
    for k in range(4):
        shift = 8 * k
        total = w00 * ((int64(texels[t00]) >> shift) & 255) + w01 * ((int64(texels[t01]) >> shift) & 255)
        total += w10 * ((int64(texels[t10]) >> shift) & 255) + w11 * ((int64(texels[t11]) >> shift) & 255)
        lanes[n, first + k] += int32(total)


@cuda.jit(device=True)
def _scale_lanes(lanes, n, second, unit, values):
    """`vector_kernels.scale_lanes` as a loop."""
    for k in range(4):
        values[n, k] = float32(lanes[n, k]) * unit
        values[n, 4 + k] = float32(lanes[n, second + k]) * unit


@cuda.jit(device=True)
def _add_color(colors, slot, weight, factors, values, n, alpha):
    """`vector_kernels.add_color` without a loop."""
    for k in range(3):
        colors[slot, k] += weight * (factors[k] * values[n, k])
    colors[slot, 3] += weight * (factors[3] * values[n, 6])
    colors[slot, 4] += weight * (factors[4] * values[n, 5])
    colors[slot, 5] += weight * alpha
    colors[slot, 6] += weight


_add_texels = _shared(
    texture_kernels,
    "_add_texels",
    _wrapped=_shared(texture_kernels, "_wrapped"),
    add_bilinear=_add_bilinear,
)
_sample_material = _shared(
    texture_kernels,
    "sample_material",
    _add_texels=_add_texels,
    _corner_color=_shared(texture_kernels, "_corner_color"),
    scale_lanes=_scale_lanes,
    add_color=_add_color,
)

if SIMULATED:

    @cuda.jit(device=True)
    def _times(a, b):
        return a * b

    @cuda.jit(device=True)
    def _plus(a, b):
        return a + b

else:
    from numba.cuda.libdevice import dadd_rn as _plus
    from numba.cuda.libdevice import dmul_rn as _times


@cuda.jit(device=True)
def _linear(a, x, b):
    return _plus(_times(a, x), b)


@cuda.jit(device=True)
def _between(p, q, s):
    return _plus(_times(1.0 - s, p), _times(s, q))


@cuda.jit(device=True)
def _plane(t):
    """`scatter_kernels.triangle_plane`, rounded as on the CPU: the plane decides which boxes a triangle overlaps."""
    ux, uy, uz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    vx, vy, vz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    nx = _plus(_times(uy, vz), -_times(uz, vy))
    ny = _plus(_times(uz, vx), -_times(ux, vz))
    nz = _plus(_times(ux, vy), -_times(uy, vx))
    length = math.sqrt(_linear(nz, nz, _linear(ny, ny, _times(nx, nx))))
    if not length > 0.0:
        return 0.0, 0.0, 0.0, 0.0
    nx, ny, nz = nx / length, ny / length, nz / length
    return nx, ny, nz, -_linear(nz, t[0, 2], _linear(ny, t[0, 1], _times(nx, t[0, 0])))


@cuda.jit(device=True)
def _fixed(value):
    return int64(math.floor(value * UNIT + 0.5))


@cuda.jit(device=True)
def _load_triangle(vertices, faces, f, resolution, scale, t, order, low, high, box_low, line_high):
    """Write a triangle in voxels, its corners by each axis, and its bounding box; returns whether it is in the cube.

    Crossings are between low and line_high, overlaps between box_low and high, as on the CPU.
    """
    tolerance = 1.5 * abs(scale - float(resolution))
    half = np.float32(0.5)
    last = resolution - 1
    for corner in range(3):
        for axis in range(3):
            position = float(vertices[faces[f, corner], axis] + half)
            if not (position >= 0.0 and position <= 1.0):
                return False
            t[corner, axis] = position * scale
    for a in range(3):
        least, most = min(t[0, a], t[1, a], t[2, a]), max(t[0, a], t[1, a], t[2, a])
        low[a], box_low[a] = min(int(least), last), min(int(least + tolerance), last)
        line_high[a], high[a] = min(int(most), last), min(int(most + tolerance), last)
        c = a + 2 if a < 1 else a - 1
        order[a, 0], order[a, 1], order[a, 2] = _corner_order(t, c)
    return True


@cuda.jit(device=True)
def _row_ends(t, order, a, row, middle):
    """The ends of the line at c = row + 1 in the triangle: b and a of the end with the smaller b, then of the other."""
    b = a + 1 if a < 2 else 0
    c = b + 1 if b < 2 else 0
    i1 = order[a, 1]
    # The line crosses the long edge and the short one of its half.
    start = order[a, 0] if row < middle else order[a, 2]
    end = order[a, 2] if row < middle else order[a, 0]
    y = float(row + 1)
    s = (y - t[start, c]) / (t[i1, c] - t[start, c])
    pb, pa = _between(t[start, b], t[i1, b], s), _between(t[start, a], t[i1, a], s)
    s = (y - t[start, c]) / (t[end, c] - t[start, c])
    qb, qa = _between(t[start, b], t[end, b], s), _between(t[start, a], t[end, a], s)
    if pb > qb:
        return qb, qa, pb, pa
    return pb, pa, qb, qa


@cuda.jit
def mark(lanes, vertices, faces, resolution, scale, spread, masks, state):
    """Set the bits of the four voxels around each crossed edge.

    `lanes` threads per triangle, a power of two; up to 32 of them share the columns of a row of grid lines.
    """
    thread = cuda.grid(1)
    f = thread // lanes
    if f >= len(faces):
        return
    t = cuda.local.array((3, 3), float64)
    order = cuda.local.array((3, 3), int64)
    low = cuda.local.array(3, int64)
    high = cuda.local.array(3, int64)
    box_low = cuda.local.array(3, int64)
    line_high = cuda.local.array(3, int64)
    if not _load_triangle(vertices, faces, f, resolution, scale, t, order, low, high, box_low, line_high):
        cuda.atomic.min(state, BAD_FACE, f)
        return
    nx, ny, nz, _ = _plane(t)
    if nx == 0.0 and ny == 0.0 and nz == 0.0:
        return
    beside = min(lanes, 32)
    lane, first_row, rows = thread % beside, (thread % lanes) // beside, lanes // beside
    for a in range(3):
        b = a + 1 if a < 2 else 0
        c = b + 1 if b < 2 else 0
        middle = min(int(t[order[a, 1], c]), resolution - 1)
        for row in range(low[c] + first_row, line_high[c], rows):
            pb, pa, qb, qa = _row_ends(t, order, a, row, middle)
            for column in range(max(int(pb), low[b]) + lane, min(int(qb), line_high[b]), beside):
                z = _linear(float(column + 1) - pb, (qa - pa) / (qb - pb), pa)
                k = min(max(int(z), low[a]), line_high[a])
                for corner in range(4):
                    code = spread[a, k] | spread[b, column + (corner & 1)] | spread[c, row + (corner >> 1)]
                    cuda.atomic.or_(masks, code >> 5, np.uint32(1 << (code & 31)))


@cuda.jit(device=True)
def _slot(code, masks, starts):
    """Row of a voxel, or -1 if it is not active."""
    word, bit = code >> 5, code & 31
    mask = int64(masks[word])
    if (mask >> bit) & 1 == 0:
        return -1
    return starts[word] + cuda.popc(mask & ((int64(1) << bit) - 1))


@cuda.jit(device=True)
def _crossings(t, order, low, high, last, voxel, point):
    """Crossings of the voxel's edges, in steps of 16, with its own edges in bits 0 to 2; adds them up in `point`."""
    info = 0
    for a in range(3):
        b = a + 1 if a < 2 else 0
        c = b + 1 if b < 2 else 0
        middle = min(int(t[order[a, 1], c]), last)
        for behind in range(2):
            row = voxel[c] - behind
            if row < low[c] or row >= high[c]:
                continue
            pb, pa, qb, qa = _row_ends(t, order, a, row, middle)
            first, stop = max(int(pb), low[b]), min(int(qb), high[b])
            for beside in range(2):
                column = voxel[b] - beside
                if column < first or column >= stop:
                    continue
                z = _linear(float(column + 1) - pb, (qa - pa) / (qb - pb), pa)
                k = min(max(int(z), low[a]), high[a])
                if k != voxel[a]:
                    continue
                info += 16
                if behind == 0 and beside == 0:
                    info |= 1 << a
                point[a] += z - k - 0.5
                point[b] += 0.5 - beside
                point[c] += 0.5 - behind
    return info


@cuda.jit(device=True)
def _overlaps(t, normal, main, tolerance, voxel):
    """Whether the triangle's three projections overlap the voxel's; the dominant axis is added last, as on the CPU."""
    for p in range(3):
        q = p + 1 if p < 2 else 0
        sign = 1.0 if normal[3 - p - q] >= 0.0 else -1.0
        for corner in range(3):
            after = corner + 1 if corner < 2 else 0
            ep = (t[corner, q] - t[after, q]) * sign
            eq = (t[after, p] - t[corner, p]) * sign
            rest = max(ep, 0.0) + max(eq, 0.0) - _plus(_times(ep, t[corner, p]), _times(eq, t[corner, q]))
            rest = _linear(tolerance, abs(ep) + abs(eq), rest)
            if q == main:
                value = _linear(eq, float(voxel[q]), _linear(ep, float(voxel[p]), rest))
            else:
                value = _linear(ep, float(voxel[p]), _linear(eq, float(voxel[q]), rest))
            if value < 0.0:
                return False
    return True


@cuda.jit
def accumulate(
    lanes, vertices, faces, resolution, scale, face_weight, regularization, spread, masks, starts, state, sums, flags,
    colors, uvs, corner_colors, material_ids, materials, transforms, factors, texels,
):  # fmt: skip
    """Add each triangle's plane, and its colors unless `colors` is empty, to the active voxels that it touches.

    `lanes` threads per triangle, each for some of the columns along its dominant axis.
    """
    thread = cuda.grid(1)
    f = thread // lanes
    if f >= len(faces) or state[VOXELS] > len(flags):
        return
    tolerance = 1.5 * abs(scale - float(resolution))
    t = cuda.local.array((3, 3), float64)
    normal = cuda.local.array(3, float64)
    order = cuda.local.array((3, 3), int64)
    low = cuda.local.array(3, int64)
    high = cuda.local.array(3, int64)
    voxel = cuda.local.array(3, int64)
    point = cuda.local.array(3, float64)
    setup = cuda.local.array(48, float64)
    hits = cuda.local.array(1, int32)
    hit_points = cuda.local.array((1, 4), float32)
    lane = cuda.local.array((1, 8), int32)
    tint = cuda.local.array(8, float32)
    values = cuda.local.array((1, 8), float32)
    color = cuda.local.array((1, 8), float32)
    box_low = cuda.local.array(3, int64)
    line_high = cuda.local.array(3, int64)
    if not _load_triangle(vertices, faces, f, resolution, scale, t, order, low, high, box_low, line_high):
        return
    nx, ny, nz, offset = _plane(t)
    if nx == 0.0 and ny == 0.0 and nz == 0.0:
        return
    normal[0], normal[1], normal[2] = nx, ny, nz
    main = _dominant_axis(normal)
    mb, mc = (main + 1) % 3, (main + 2) % 3
    inverse = 1.0 / normal[main]
    span = _linear(0.5 * (abs(nx) + abs(ny) + abs(nz)), abs(inverse), 3.0 * tolerance)
    breadth = high[mb] - low[mb] + 1
    sampled = False
    for column in range(thread % lanes, breadth * (high[mc] - low[mc] + 1), lanes):
        voxel[mb], voxel[mc] = low[mb] + column % breadth, low[mc] + column // breadth
        depth = _linear(normal[mb], voxel[mb] + 0.5, _linear(normal[mc], voxel[mc] + 0.5, offset))
        center = _plus(_times(-depth, inverse), -0.5)
        # The plane meets these boxes.
        k_low = max(int64(math.ceil(center - span)), box_low[main])
        k_high = int64(math.floor(center + span))
        beyond = voxel[mb] < box_low[mb] or voxel[mc] < box_low[mc]
        k_first = max(int64(math.ceil(center - span - 1e-6)), low[main])
        k_last = min(int64(math.floor(center + span + 1e-6)), high[main])
        for k in range(k_first, k_last + 1):
            voxel[main] = k
            slot = _slot(spread[0, voxel[0]] | spread[1, voxel[1]] | spread[2, voxel[2]], masks, starts)
            if slot < 0:
                continue
            point[0] = point[1] = point[2] = 0.0
            info = _crossings(t, order, low, line_high, resolution - 1, voxel, point)
            crossings = info >> 4
            weight = float(crossings)
            if (
                not beyond
                and face_weight != 0.0
                and k_low <= k <= k_high
                and _overlaps(t, normal, main, tolerance, voxel)
            ):
                weight += face_weight
            if weight == 0.0:
                continue
            x, y, z = voxel[0] + 0.5, voxel[1] + 0.5, voxel[2] + 0.5
            distance = nx * x + ny * y + nz * z + offset
            place = 4
            for i in range(3):
                linear = regularization * point[i] - weight * distance * normal[i]
                cuda.atomic.add(sums, (slot, i), _fixed(linear))
                for j in range(i, 3):
                    cuda.atomic.add(sums, (slot, place), _fixed(weight * normal[i] * normal[j]))
                    place += 1
            if crossings == 0:
                continue
            cuda.atomic.add(sums, (slot, 3), int64(crossings))
            if info & 7:
                cuda.atomic.or_(flags, slot, int32(info & 7))
            if len(colors) == 0:
                continue
            if not sampled:
                sampled = True
                _setup_material(f, t, uvs, corner_colors, material_ids, materials, transforms, factors, setup)
            hits[0] = 0
            hit_points[0, 0], hit_points[0, 1], hit_points[0, 2] = x - t[0, 0], y - t[0, 1], z - t[0, 2]
            hit_points[0, 3] = 1.0 - distance / scale
            for i in range(8):
                color[0, i] = 0.0
            material = int64(material_ids[f])
            _sample_material(1, hits, hit_points, setup, material, materials, texels, lane, values, tint, color)
            for i in range(7):
                cuda.atomic.add(colors, (slot, i), _fixed(float(color[0, i])))


@cuda.jit
def add_boundary(vertices, edges, resolution, weight, spread, masks, starts, state, sums):
    """One thread per edge: walk along it and add its line quadric to active voxels; see `scatter_boundary`."""
    e = cuda.grid(1)
    if e >= len(edges) or state[VOXELS] > len(sums):
        return
    origin = cuda.local.array(3, float64)
    direction = cuda.local.array(3, float64)
    ahead = cuda.local.array(3, float64)
    between = cuda.local.array(3, float64)
    voxel = cuda.local.array(3, int64)
    step = cuda.local.array(3, int64)
    length = _start_walk(vertices, edges[e, 0], edges[e, 1], resolution, origin, direction, voxel, step, ahead, between)
    walking = length > 0.0
    while walking:
        inside = True
        for axis in range(3):
            inside = inside and voxel[axis] >= 0 and voxel[axis] < resolution
        if inside:
            slot = _slot(spread[0, voxel[0]] | spread[1, voxel[1]] | spread[2, voxel[2]], masks, starts)
            if slot >= 0:
                along = 0.0
                for i in range(3):
                    along += (origin[i] - voxel[i] - 0.5) * direction[i]
                place = 4
                for i in range(3):
                    p = origin[i] - voxel[i] - 0.5
                    cuda.atomic.add(sums, (slot, i), _fixed(weight * (p - along * direction[i])))
                    for j in range(i, 3):
                        unit = 1.0 if i == j else 0.0
                        cuda.atomic.add(sums, (slot, place), _fixed(weight * (unit - direction[i] * direction[j])))
                        place += 1
        walking = _walk_on(length, voxel, step, ahead, between)


@cuda.jit
def emit(regularization, state, codes, sums, flags, colors, coords, dual, intersected, base_color, surface):
    """One thread per voxel: write its row of the results, whose shapes are those of `solve_kernels.emit_voxels`."""
    n = cuda.grid(1)
    if n >= state[VOXELS] or state[VOXELS] > len(codes):
        return
    row = cuda.local.array((1, 12), float32)
    code = int64(codes[n])
    coords[n, 0], coords[n, 1], coords[n, 2] = _compact(code >> 2), _compact(code >> 1), _compact(code)
    for axis in range(3):
        intersected[n, axis] = (flags[n] >> axis) & 1 != 0
    for i in range(10):
        row[0, i] = sums[n, i] if i == 3 else sums[n, i] / UNIT
    x, y, z = _box_minimum(row, 0, regularization)
    dual[n, 0], dual[n, 1], dual[n, 2] = x + 0.5, y + 0.5, z + 0.5
    if len(colors) > 0:
        for i in range(6):
            value = colors[n, i] * 255.0 / colors[n, 6] + 1e-3
            byte = np.uint8(min(max(value, 0.0), 255.0))
            if i < 3:
                base_color[n, i] = byte
            else:
                surface[i - 3, n] = byte
