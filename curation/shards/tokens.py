"""Counts the latent tokens of an O-Voxel. No network is needed, so every sample records its counts."""

from __future__ import annotations

import numpy as np

from helix4d.voxelize import OVoxel

TOKEN_VOXELS = 16
"""Side of the block of voxels that becomes one token of the shape and texture latents, as in TRELLIS.2."""


def count_tokens(ovoxel: OVoxel) -> int:
    """Count the blocks of `TOKEN_VOXELS`³ that contain any voxel."""
    blocks = ovoxel.coords.astype(np.int64) // TOKEN_VOXELS
    side = ovoxel.resolution // TOKEN_VOXELS
    return len(np.unique((blocks[:, 0] * side + blocks[:, 1]) * side + blocks[:, 2]))
