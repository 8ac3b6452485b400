"""Rotary position embedding of voxels and time: which channel pair turns by which angle, as pure functions.

A head of d channels is d/2 adjacent pairs. TRELLIS.2 gives n = d // 2 // 3 pairs to each of x, y and z, at frequencies
f_i = 10000^(−i/n), and leaves the rest unrotated. Helix4D keeps the fast pairs of each axis and gives the slow ones,
with those left over, to time (section 4.2 of the paper), so that every pair still turns with one coordinate alone.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.config import TemporalRotary, VideoConfig

_BASE = 10000.0


def axis_pairs(head_channels: int) -> int:
    """Pairs per spatial axis, n: 21 of a head's 64 at d = 128."""
    return head_channels // 2 // 3


def kept_pairs(head_channels: int, kept: float) -> int:
    """Pairs per axis that still encode space: 16 of 21 at kept = 0.75."""
    return round(kept * axis_pairs(head_channels))


def freed_pairs(head_channels: int, kept: float) -> list[int]:
    """Indices of the pairs that space does not use, ascending: the slow ones of x, y and z, then those left over."""
    n, keep = axis_pairs(head_channels), kept_pairs(head_channels, kept)
    slow = [axis * n + i for axis in range(3) for i in range(keep, n)]
    return slow + list(range(3 * n, head_channels // 2))


def frequencies(count: int, period: int, device: torch.device | None = None) -> Tensor:
    """f_i = 10000^(−i/period) for i < count: float32 [count]."""
    exponent = torch.arange(count, dtype=torch.float32, device=device) / period
    return 1.0 / torch.pow(_BASE, exponent)


def require_pairs_for_time(head_channels: int, video: VideoConfig) -> None:
    """Refuse a video of several frames whose rotary has no pair left that could tell them apart."""
    if video.temporal is TemporalRotary.REPURPOSED and not freed_pairs(head_channels, video.kept):
        raise ConfigError(
            f"kept {video.kept} of {axis_pairs(head_channels)} pairs per axis leaves none of {head_channels // 2} "
            "for time: keep fewer"
        )


def rotary_angles(coords: Tensor, frames: Tensor, head_channels: int, resolution: int, video: VideoConfig) -> Tensor:
    """The angle by which each pair of each token turns.

    Args:
        coords: int [L, 3] voxel coordinates of the stage's grid.
        frames: int [L] frame numbers.
        head_channels: d.
        resolution: N, voxels per side of the stage's grid.
        video: which pairs are kept and where time goes.

    Returns:
        float32 [L, d/2], in radians.
    """
    n, keep = axis_pairs(head_channels), kept_pairs(head_channels, video.kept)
    angles = torch.zeros(len(coords), head_channels // 2, dtype=torch.float32, device=coords.device)
    spatial = frequencies(n, n, coords.device)[:keep]
    for axis in range(3):
        angles[:, axis * n : axis * n + keep] = coords[:, axis, None].float() * spatial
    if video.temporal is TemporalRotary.REPURPOSED:
        freed = freed_pairs(head_channels, video.kept)
        position = frames.float() * video.scale(resolution)
        angles[:, freed] = position[:, None] * frequencies(len(freed), n, coords.device)
    elif video.temporal is TemporalRotary.SS4D:
        # Two rotations of one plane add up, so SS4D's second embedding is a second angle.
        pairs = head_channels // 2
        angles = angles + frames.float()[:, None] * frequencies(pairs, pairs, coords.device)
    return angles


def apply_rotary(x: Tensor, cos: Tensor, sin: Tensor) -> Tensor:
    """Turn the adjacent pairs (2j, 2j + 1) of x [L, H, d] by the angles whose cosines and sines are [L, d/2]."""
    a, b = x.unflatten(-1, (-1, 2)).unbind(-1)
    cos, sin = cos[:, None].to(x.dtype), sin[:, None].to(x.dtype)
    return torch.stack([a * cos - b * sin, a * sin + b * cos], dim=-1).flatten(-2)


def dense_coordinates(resolution: int, device: torch.device | None = None) -> Tensor:
    """int64 [N^3, 3]: the voxels of a dense grid in token order, x slowest."""
    axis = torch.arange(resolution, device=device)
    return torch.stack(torch.meshgrid(axis, axis, axis, indexing="ij"), dim=-1).flatten(0, 2)
