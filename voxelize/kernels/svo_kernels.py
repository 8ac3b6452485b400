"""Converts Morton codes to a depth-first octree with one byte per node, and back.

The root comes first. The bit of a child is its octal digit (4x + 2y + z), so ascending codes visit the nodes in the
order in which they are stored. The nodes of the last level hold the voxels.
"""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, i8, kernel, u1

CORRUPT = -1


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


@kernel(array(u1, 1), i8, array(i8, 1, True))
def decode_octree(octree, levels, codes):
    """Write the codes of an octree and return their number, or CORRUPT.

    Corrupt is an octree with an empty node, too few or too many nodes, or more voxels than `codes` (N,) int64 holds.
    """
    rest = np.zeros(levels, np.int64)  # children still to visit, per level
    prefix = np.zeros(levels + 1, np.int64)
    if len(octree) == 0 or octree[0] == 0:
        return CORRUPT
    rest[0] = octree[0]
    used, count, level = 1, 0, 0
    while level >= 0:
        if rest[level] == 0:
            level -= 1
            continue
        child = 0
        while (rest[level] >> child) & 1 == 0:
            child += 1
        rest[level] &= rest[level] - 1
        code = prefix[level] << 3 | child
        if level == levels - 1:
            if count == len(codes):
                return CORRUPT
            codes[count] = code
            count += 1
            continue
        if used == len(octree) or octree[used] == 0:
            return CORRUPT
        level += 1
        prefix[level] = code
        rest[level] = octree[used]
        used += 1
    return count if used == len(octree) else CORRUPT
