"""How many tokens the latents of an O-Voxel will have: known before any network runs, recorded with every sample."""

from __future__ import annotations

import numpy as np

from helix4d.voxelize import OVoxel

TOKEN_VOXELS = 16
"""Side of the block of voxels that becomes one token of the shape and texture latents (TRELLIS.2)."""


def count_tokens(ovoxel: OVoxel) -> int:
    """Blocks of `TOKEN_VOXELS`³ with any voxel in them."""
    blocks = ovoxel.coords.astype(np.int64) // TOKEN_VOXELS
    side = ovoxel.resolution // TOKEN_VOXELS
    return len(np.unique((blocks[:, 0] * side + blocks[:, 1]) * side + blocks[:, 2]))
