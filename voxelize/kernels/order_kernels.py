"""Sorts the faces of a mesh spatially, and estimates how many voxels they need.

Shapes: vertices (V, 3) float32, faces (F, 3) int32, spread (3, 32) int32 from `helix4d.voxelize.ovoxel.spread_table`.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, f4, i4, kernel

ORDER_SIDE = 32
"""Cells per side of the grid by which faces are sorted."""


@kernel(array(f4, 2), array(i4, 2), array(i4, 2))
def spatial_order(vertices, faces, spread):
    """(F,) int32 face indices sorted (stably) by the Morton code of the first corner on a 32^3 grid, for locality.

    Also returns the sum over faces of the areas of their three projections: times resolution², about the number of
    voxels. Without sorting, triangles in random order would cause a cache miss at each voxel.
    """
    keys = np.empty(len(faces), np.int32)
    starts = np.zeros(ORDER_SIDE**3 + 1, np.int32)
    shadow = 0.0
    for f in range(len(faces)):
        p, q, r = faces[f, 0], faces[f, 1], faces[f, 2]
        for a in range(3):
            b = a + 1 if a < 2 else 0
            area = (vertices[q, a] - vertices[p, a]) * (vertices[r, b] - vertices[p, b])
            shadow += 0.5 * abs(area - (vertices[q, b] - vertices[p, b]) * (vertices[r, a] - vertices[p, a]))
        key = 0
        for axis in range(3):
            position = vertices[faces[f, 0], axis]
            # NaN and points outside also end up in a bucket; the scatter reports them.
            cell = (
                int((position + np.float32(0.5)) * np.float32(ORDER_SIDE)) if -0.5 <= position < 0.5 else ORDER_SIDE - 1
            )
            key |= spread[axis, cell]
        keys[f] = key
        starts[key + 1] += 1
    for key in range(ORDER_SIDE**3):
        starts[key + 1] += starts[key]
    order = np.empty(len(faces), np.int32)
    for f in range(len(faces)):
        key = keys[f]
        order[starts[key]] = f
        starts[key] += 1
    return order, shadow
