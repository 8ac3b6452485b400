"""Converts Morton codes to a depth-first octree with one byte per node, and an octree to coordinates.

The root comes first. The bit of a child is its octal digit (4x + 2y + z), so ascending codes visit the nodes in the
order in which they are stored. The nodes of the last level hold the voxels.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, b1, f4, i4, i8, kernel, u1

CORRUPT = -1
_LOWEST = np.array([0, *((mask & -mask).bit_length() - 1 for mask in range(1, 256))], np.uint8)
"""(256,) the lowest bit of each mask of children."""


@kernel(array(i8, 1), i8)
def encode_octree(codes, levels):
    """The (K,) uint8 octree of ascending (N,) int64 codes below 8^levels, N at least 1."""
    octree = np.empty(levels * len(codes), np.uint8)
    place = np.zeros(levels, np.int64)
    used = 0
    before = np.int64(-1)
    for n in range(len(codes)):
        code = codes[n]
        level = 0  # the deepest node that this voxel shares with the previous one
        if before >= 0:
            while level + 1 < levels and (code ^ before) >> (3 * (levels - 1 - level)) == 0:
                level += 1
        else:
            place[0] = 0
            octree[0] = 0
            used = 1
        for deeper in range(level, levels):
            if deeper > level:
                place[deeper] = used
                octree[used] = 0
                used += 1
            octree[place[deeper]] |= np.uint8(1 << ((code >> (3 * (levels - 1 - deeper))) & 7))
        before = code
    return octree[:used].copy()


@kernel(array(u1, 1), i8, array(i8, 1), array(i4, 2, True))
def decode_octree(octree, levels, corner, coords):
    """Write the coords of an octree's voxels in Morton order and return their number, or CORRUPT.

    `corner` (3,) int64 is the octree's minimum corner. Corrupt is an octree with an empty node, too few or too many
    nodes, or more voxels than `coords` (N, 3) int32 holds.
    """
    rest = np.zeros(levels, np.int64)  # children still to visit, per level
    nodes = np.zeros((levels, 3), np.int64)  # minimum corner of the node that is being visited, per level
    nodes[0] = corner
    used, count, level = 0, 0, 0
    while level >= 0:
        if used == len(octree) or octree[used] == 0:
            return CORRUPT
        node = np.int64(octree[used])
        used += 1
        if level == levels - 1:
            count = _write_leaves(node, nodes[level, 0], nodes[level, 1], nodes[level, 2], coords, count)
            if count == CORRUPT:
                return CORRUPT
        else:
            rest[level] = node
        while level >= 0 and rest[level] == 0:
            level -= 1
        if level >= 0:
            child = np.int64(_LOWEST[rest[level]])
            rest[level] &= rest[level] - 1
            side = levels - 1 - level  # of the child, as a power of two
            nodes[level + 1, 0] = nodes[level, 0] + ((child >> 2) << side)
            nodes[level + 1, 1] = nodes[level, 1] + (((child >> 1) & 1) << side)
            nodes[level + 1, 2] = nodes[level, 2] + ((child & 1) << side)
            level += 1
    return count if used == len(octree) else CORRUPT


@kernel()
def _write_leaves(node, x, y, z, coords, count):
    """Write the voxels of a node of the last level from row `count` on; returns the next row, or CORRUPT."""
    if count + 8 <= len(coords):
        for child in range(8):  # absent children are overwritten: a branch on each would take twice the time
            coords[count, 0] = x + (child >> 2)
            coords[count, 1] = y + ((child >> 1) & 1)
            coords[count, 2] = z + (child & 1)
            count += (node >> child) & 1
        return count
    for child in range(8):
        if (node >> child) & 1:
            if count == len(coords):
                return CORRUPT
            coords[count, 0] = x + (child >> 2)
            coords[count, 1] = y + ((child >> 1) & 1)
            coords[count, 2] = z + (child & 1)
            count += 1
    return count


@kernel(array(u1, 1), array(u1, 1), array(f4, 1, True), array(b1, 1, True))
def unpack_geometry(stored, bits, dual_vertices, intersected):
    """Write dual vertices, float32, of as many stored bytes, and three flags for each of the bits (N,) uint8.

    Returns the bitwise or of all bits.
    """
    for n in range(len(stored)):
        dual_vertices[n] = np.float32(stored[n]) / np.float32(255)
    union = np.uint8(0)
    for n in range(len(bits)):
        union |= bits[n]
        intersected[3 * n] = bits[n] & 1
        intersected[3 * n + 1] = (bits[n] >> 1) & 1
        intersected[3 * n + 2] = (bits[n] >> 2) & 1
    return union
