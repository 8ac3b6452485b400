"""The area of a surface outside active voxels.

Shapes: vertices (V, 3) float32, faces (F, 3) int32, coords (N, 3) int32, spread (3, side) int32, top (bricks of the
cube,) int32 in Morton order with 0 for none, masks (B, 8) uint64 with one bit per voxel of a brick.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import math

import numpy as np

from helix4d.voxelize.kernels.compilation import array, f4, i4, i8, kernel

MOST_PARTS = 64
"""Most parts along the side of a triangle."""
TOLERANCE = 1e-6
"""In voxels: a point this close to a face of its voxel also counts for the voxel beyond."""


@kernel(array(f4, 2), array(i4, 2), array(i4, 2), i8, array(i4, 2))
def surface_areas(vertices, faces, coords, resolution, spread):
    """Total area of the triangles, and their area outside all voxels, in units of a voxel's face.

    A triangle is cut into congruent parts of about a voxel's size; the center of a part decides where it belongs.
    """
    side = spread.shape[1]
    top = np.zeros((side >> 3) ** 3, np.int32)
    bricks = 1
    for n in range(len(coords)):
        place = (spread[0, coords[n, 0]] | spread[1, coords[n, 1]] | spread[2, coords[n, 2]]) >> 9
        if top[place] == 0:
            top[place] = bricks
            bricks += 1
    masks = np.zeros((bricks, 8), np.uint64)
    for n in range(len(coords)):
        code = spread[0, coords[n, 0]] | spread[1, coords[n, 1]] | spread[2, coords[n, 2]]
        masks[top[code >> 9], (code >> 6) & 7] |= np.uint64(1) << np.uint64(code & 63)
    scale = float(resolution)
    total = 0.0
    lost = 0.0
    for f in range(len(faces)):
        p, q, r = faces[f, 0], faces[f, 1], faces[f, 2]
        ox, oy, oz = (vertices[p, 0] + 0.5) * scale, (vertices[p, 1] + 0.5) * scale, (vertices[p, 2] + 0.5) * scale
        ux, uy, uz = (
            (vertices[q, 0] - vertices[p, 0]) * scale,
            (vertices[q, 1] - vertices[p, 1]) * scale,
            (vertices[q, 2] - vertices[p, 2]) * scale,
        )
        vx, vy, vz = (
            (vertices[r, 0] - vertices[p, 0]) * scale,
            (vertices[r, 1] - vertices[p, 1]) * scale,
            (vertices[r, 2] - vertices[p, 2]) * scale,
        )
        nx, ny, nz = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
        area = 0.5 * math.sqrt(nx * nx + ny * ny + nz * nz)
        if not area > 0.0:
            continue
        longest = max(ux * ux + uy * uy + uz * uz, vx * vx + vy * vy + vz * vz)
        longest = math.sqrt(max(longest, (ux - vx) ** 2 + (uy - vy) ** 2 + (uz - vz) ** 2))
        parts = min(max(math.ceil(longest), 1), MOST_PARTS)
        missing = 0
        for i in range(parts):
            for twice_j in range(2 * (parts - i) - 1):
                # Even parts are oriented like the triangle, odd parts are rotated by 180°.
                third = (1.0 + (twice_j & 1)) / 3.0
                a, b = (i + third) / parts, ((twice_j >> 1) + third) / parts
                x, y, z = ox + a * ux + b * vx, oy + a * uy + b * vy, oz + a * uz + b * vz
                if not (_active(x, y, z, TOLERANCE, resolution, spread, top, masks)):
                    missing += not _active(x, y, z, -TOLERANCE, resolution, spread, top, masks)
        total += area
        lost += area * missing / (parts * parts)
    return total, lost


@kernel()
def _active(x, y, z, shift, resolution, spread, top, masks):
    i = min(max(int(x + shift), 0), resolution - 1)
    j = min(max(int(y + shift), 0), resolution - 1)
    k = min(max(int(z + shift), 0), resolution - 1)
    code = spread[0, i] | spread[1, j] | spread[2, k]
    brick = top[code >> 9]
    return brick > 0 and (masks[brick, (code >> 6) & 7] >> np.uint64(code & 63)) & np.uint64(1) != 0
