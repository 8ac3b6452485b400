"""Line quadrics of boundary edges. Shapes as in scatter_kernels.py."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from helix4d.voxelize.kernels.compilation import array, f4, f8, i4, i8, kernel


@kernel(array(f4, 2), array(i4, 2), i8, f8, array(i4, 2), array(i4, 1), array(i4, 2), array(f4, 2, True))
def scatter_boundary(vertices, edges, resolution, weight, spread, top, table, sums):
    """Walk along boundary edges (E, 2) and add their line quadrics to the voxels in use.

    `gpu_kernels.add_boundary` is the same walk with fixed-point atomics.
    """
    last = resolution - 1
    start = np.empty(3)
    direction = np.empty(3)
    voxel = np.empty(3, np.int64)
    step = np.empty(3, np.int64)
    ahead = np.empty(3)
    between = np.empty(3)
    for e in range(len(edges)):
        length = start_walk(
            vertices, edges[e, 0], edges[e, 1], resolution, start, direction, voxel, step, ahead, between
        )
        dx, dy, dz = direction[0], direction[1], direction[2]
        walking = length > 0.0
        while walking:
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
            walking = walk_on(length, voxel, step, ahead, between)


@kernel()
def start_walk(vertices, first, second, resolution, start, direction, voxel, step, ahead, between):
    """Start a walk along an edge through the grid; returns its length in voxels, 0 if it is too short to walk.

    Written, (3,) each: start float64 in voxels, direction float64 unit, voxel int64; along each axis step int64 from
    voxel to voxel, ahead float64 distance to the next voxel, between float64 distance from voxel to voxel.
    """
    scale = float(resolution)
    half = np.float32(0.5)
    length = 0.0
    for axis in range(3):
        start[axis] = float(vertices[first, axis] + half) * scale
        direction[axis] = float(vertices[second, axis] + half) * scale - start[axis]
        length += direction[axis] * direction[axis]
    length = math.sqrt(length)
    if length < 1e-6 * scale:
        return 0.0
    for axis in range(3):
        direction[axis] /= length
        voxel[axis] = int(math.floor(start[axis]))  # noqa: RUF046 (a float on a GPU)
        step[axis] = 0
        ahead[axis] = between[axis] = math.inf
        if direction[axis] > 0.0:
            step[axis] = 1
            ahead[axis] = (voxel[axis] + 1 - start[axis]) / direction[axis]
            between[axis] = 1.0 / direction[axis]
        elif direction[axis] < 0.0:
            step[axis] = -1
            ahead[axis] = (voxel[axis] - start[axis]) / direction[axis]
            between[axis] = -1.0 / direction[axis]
    return length


@kernel()
def walk_on(length, voxel, step, ahead, between):
    """Move to the next voxel of a walk; returns False at the end of the edge."""
    axis = 0  # ties go to the later axis, as in TRELLIS.2
    if ahead[1] <= ahead[axis]:
        axis = 1
    if ahead[2] <= ahead[axis]:
        axis = 2
    if ahead[axis] > length:
        return False
    voxel[axis] += step[axis]
    ahead[axis] += between[axis]
    return True
