"""Quads of the dual grid: the four voxels around each crossed grid edge, found through the sorted codes."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, b1, f4, i4, i8, kernel

FIRST, WEIGHT, ALIGNED = 0, 1, 2
"""How a quad is split: at diagonal 0-2, at the one with larger weights, or at the one with better aligned triangles."""


@kernel()
def _find(codes, heads, shift, code):
    """Index of a code among ascending codes, or -1; heads (H,) int64 is the first index of each code >> shift."""
    bucket = code >> shift
    if bucket + 1 >= len(heads):
        return -1
    low, high = heads[bucket], heads[bucket + 1]
    while low < high:
        middle = (low + high) >> 1
        if codes[middle] < code:
            low = middle + 1
        else:
            high = middle
    return low if low < len(codes) and codes[low] == code else -1


@kernel(
    i8, array(i8, 1), array(i8, 1), i8, array(i4, 2), array(i4, 2), array(b1, 2), array(f4, 2), array(f4, 1), i8
)  # fmt: skip
def dual_faces(resolution, codes, heads, shift, spread, coords, intersected, vertices, weights, split):
    """(F, 3) int32 faces, with the voxels as vertices.

    codes (N,) int64 ascending, coords (N, 3) int32, intersected (N, 3) bool, vertices (N, 3) float32, weights (N,)
    float32, spread (3, R) int32 code of a coordinate along each axis.
    """
    total = 0
    for n in range(len(coords)):
        for axis in range(3):
            total += intersected[n, axis]
    faces = np.empty((2 * total, 3), np.int32)
    used = 0
    quad = np.empty(4, np.int64)
    for n in range(len(coords)):
        for axis in range(3):
            if not intersected[n, axis]:
                continue
            # Voxel offsets in TRELLIS.2's order: x 000, 001, 011, 010; y 000, 100, 101, 001; z 000, 010, 110, 100.
            first, second = (axis + 2) % 3, (axis + 1) % 3
            complete = coords[n, first] + 1 < resolution and coords[n, second] + 1 < resolution
            if not complete:
                continue
            along = spread[axis, coords[n, axis]]
            low_first = spread[first, coords[n, first]]
            high_first = spread[first, coords[n, first] + 1]
            low_second = spread[second, coords[n, second]]
            high_second = spread[second, coords[n, second] + 1]
            quad[0] = n
            quad[1] = _find(codes, heads, shift, along | high_first | low_second)
            quad[2] = _find(codes, heads, shift, along | high_first | high_second)
            quad[3] = _find(codes, heads, shift, along | low_first | high_second)
            if quad[1] < 0 or quad[2] < 0 or quad[3] < 0:
                continue
            if split == FIRST:
                straight = True
            elif split == WEIGHT:
                straight = weights[quad[0]] * weights[quad[2]] > weights[quad[1]] * weights[quad[3]]
            else:
                straight = _alignment(vertices, quad[0], quad[1], quad[2], quad[0], quad[2], quad[3]) >= _alignment(
                    vertices, quad[0], quad[1], quad[3], quad[3], quad[1], quad[2]
                )
            faces[used, 0] = quad[0]
            faces[used, 1] = quad[1]
            faces[used, 2] = quad[2] if straight else quad[3]
            faces[used + 1, 0] = quad[0] if straight else quad[3]
            faces[used + 1, 1] = quad[2] if straight else quad[1]
            faces[used + 1, 2] = quad[3] if straight else quad[2]
            used += 2
    return faces[:used].copy()


@kernel()
def _alignment(vertices, a, b, c, d, e, f):
    """Cosine between the normals of triangles (a, b, c) and (d, e, f); -2 if one has no area."""
    px, py, pz = _normal(vertices, a, b, c)
    qx, qy, qz = _normal(vertices, d, e, f)
    lengths = (px * px + py * py + pz * pz) * (qx * qx + qy * qy + qz * qz)
    if not lengths > 0.0:
        return -2.0
    return (px * qx + py * qy + pz * qz) / np.sqrt(lengths)


@kernel()
def _normal(vertices, a, b, c):
    ox, oy, oz = float(vertices[a, 0]), float(vertices[a, 1]), float(vertices[a, 2])
    ux, uy, uz = vertices[b, 0] - ox, vertices[b, 1] - oy, vertices[b, 2] - oz
    vx, vy, vz = vertices[c, 0] - ox, vertices[c, 1] - oy, vertices[c, 2] - oz
    return uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
