"""Tokens of voxels, and the normalization of latents."""

from __future__ import annotations

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.latents.latents import (
    SHAPE_STATISTICS,
    LatentStatistics,
    occupancy,
    token_layout,
    tokens_from_occupancy,
)


def _coords(count: int = 400) -> torch.Tensor:
    xyz = torch.randint(0, 512, (count, 3), generator=torch.Generator().manual_seed(0))
    sample = torch.arange(count)[:, None] * 3 // count
    return torch.cat([sample, xyz], dim=1).int()


def test_tokens_are_the_unique_quotients():
    coords = _coords()
    cells = torch.unique(torch.cat([coords[:, :1], coords[:, 1:] // 8], dim=1), dim=0)
    volume = occupancy(coords, 3)
    assert volume.shape == (3, 1, 64, 64, 64)
    assert torch.equal(volume[:, 0].nonzero().int(), cells)
    tokens = torch.unique(torch.cat([coords[:, :1], coords[:, 1:] // 16], dim=1), dim=0)
    assert torch.equal(token_layout(coords, 3).coords, tokens)


def test_pooling_the_occupancy_produces_the_same_tokens():
    """Sampling derives the same tokens from a prediction as training does from the asset."""
    coords = _coords()
    logits = occupancy(coords, 3) * 2 - 1
    assert torch.equal(tokens_from_occupancy(logits).coords, token_layout(coords, 3).coords)


def test_empty_frames():
    nothing = torch.zeros(0, 4, dtype=torch.int32)
    assert not occupancy(nothing, 2).any()
    assert token_layout(nothing, 2).lengths == (0, 0)


def test_normalization_inverts():
    z = torch.randn(7, 32, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(SHAPE_STATISTICS.normalize(SHAPE_STATISTICS.denormalize(z)), z, atol=1e-5, rtol=1e-5)


def test_invalid_statistics_and_grids_are_rejected():
    with pytest.raises(ConfigError, match="2 means and 1 standard deviations"):
        LatentStatistics((0.0, 0.0), (1.0,))
    with pytest.raises(ConfigError, match="not divisible"):
        occupancy(_coords(), 3, resolution=500)
