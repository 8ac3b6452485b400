"""Rotary position embedding of voxels and time: the rotation angle of each channel pair, as pure functions.

A head of d channels has d/2 adjacent pairs. TRELLIS.2 assigns n = d // 2 // 3 pairs to each of x, y and z, with
frequencies f_i = 10000^(−i/n), and does not rotate the rest. Helix4D keeps the high-frequency pairs of each axis and
assigns the low-frequency and unused pairs to time (section 4.2 of the paper), so each pair encodes a single coordinate.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.device import upload
from helix4d.model.networks.config import TemporalRotary, VideoConfig

_BASE = 10000.0


def axis_pairs(head_channels: int) -> int:
    """Number of pairs per spatial axis, n: 21 of a head's 64 for d = 128."""
    return head_channels // 2 // 3


def kept_pairs(head_channels: int, kept: float) -> int:
    """Number of pairs per axis that still encode space: 16 of 21 for kept = 0.75."""
    return round(kept * axis_pairs(head_channels))


def freed_pairs(head_channels: int, kept: float) -> list[int]:
    """Indices of the pairs not used for space, ascending: low frequencies of x, y and z, then the unused pairs."""
    n, keep = axis_pairs(head_channels), kept_pairs(head_channels, kept)
    slow = [axis * n + i for axis in range(3) for i in range(keep, n)]
    return slow + list(range(3 * n, head_channels // 2))


def frequencies(count: int, period: int, device: torch.device | None = None) -> Tensor:
    """Return f_i = 10000^(−i/period) for i < count, float32 [count]."""
    exponent = torch.arange(count, dtype=torch.float32, device=device) / period
    return 1.0 / torch.pow(_BASE, exponent)


def require_pairs_for_time(head_channels: int, video: VideoConfig) -> None:
    """Raise a ConfigError if no rotary pair is left to encode time."""
    if video.temporal is TemporalRotary.REPURPOSED and not freed_pairs(head_channels, video.kept):
        raise ConfigError(
            f"kept is {video.kept}: keeping that fraction of {axis_pairs(head_channels)} pairs per axis leaves none of "
            f"the {head_channels // 2} pairs for time; lower it"
        )


def rotary_angles(coords: Tensor, frames: Tensor, head_channels: int, resolution: int, video: VideoConfig) -> Tensor:
    """Compute the rotation angle of each pair of each token.

    Args:
        coords: int [L, 3], voxel coordinates in the stage's grid.
        frames: int [L], frame numbers.
        head_channels: channels per head, d.
        resolution: voxels per side of the stage's grid, N.
        video: fraction of pairs kept and kind of temporal embedding.

    Returns:
        Angles in radians, float32 [L, d/2].
    """
    n, keep = axis_pairs(head_channels), kept_pairs(head_channels, video.kept)
    angles = torch.zeros(len(coords), head_channels // 2, dtype=torch.float32, device=coords.device)
    spatial = frequencies(n, n, coords.device)[:keep]
    for axis in range(3):
        angles[:, axis * n : axis * n + keep] = coords[:, axis, None].float() * spatial
    if video.temporal is TemporalRotary.REPURPOSED:
        freed = freed_pairs(head_channels, video.kept)
        position = frames.float() * video.scale(resolution)
        index = upload(freed, torch.int64, coords.device)
        angles.index_copy_(1, index, position[:, None] * frequencies(len(freed), n, coords.device))
    elif video.temporal is TemporalRotary.SS4D:
        # Rotations of the same plane add up, so SS4D's second embedding is an additional angle.
        pairs = head_channels // 2
        angles = angles + frames.float()[:, None] * frequencies(pairs, pairs, coords.device)
    return angles


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Rotate the adjacent pairs (2j, 2j + 1) of x [L, H, d] by angles given as cosines and sines [L, d/2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def dense_coordinates(resolution: int, device: torch.device | None = None) -> Tensor:
    """Return the voxel coordinates of a dense grid in token order (x slowest), int64 [N^3, 3]."""
    axis = torch.arange(resolution, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).flatten(0, 2)
