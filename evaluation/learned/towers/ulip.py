"""ULIP-2's point encoder (`ULIP2_PointBERT_Colored`) with the parameter names of its checkpoint.

Source: salesforce/ULIP, `PointTransformer_Colored` in models/pointbert/point_encoder.py, its configuration
ULIP_2_PointBERT_10k_colored_pointclouds.yaml, and `ULIP2_WITH_OPENCLIP` in models/ULIP_models.py.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.evaluation.learned.towers.point_tokens import PointEncoderConfig, PointTokens
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

_UNUSED = ("logit_scale", "open_clip_model.")

ULIP2 = PointEncoderConfig(groups=512, size=32, token=256, width=384, layers=18, heads=6, hidden=1536, embedding=1280)


class UlipEncoder(nn.Module):
    """A point encoder: (B, N, 6) clouds, normalized, sRGB in [0, 1] → (B, embedding) features, not normalized."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.point_encoder = _PointTransformer(config)
        self.pc_projection = nn.Parameter(torch.zeros(2 * config.width, config.embedding))

    def forward(self, clouds: Tensor) -> Tensor:
        features: Tensor = self.point_encoder(clouds) @ self.pc_projection
        return features


class _PointTransformer(PointTokens):
    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__(config)
        block = BlockConfig(config.width, config.heads, config.hidden, bias="none", eps=1e-5)
        self.reduce_dim = nn.Linear(config.token, config.width)
        self.blocks = nn.Module()
        self.blocks.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)

    def forward(self, clouds: Tensor) -> Tensor:
        x, positions = self.embed(clouds, self.reduce_dim)
        for block in self.blocks.blocks:  # type: ignore[union-attr]
            x = block(x + positions)  # positions are added before every block
        x = self.norm(x)
        return torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=-1)


def load_ulip(path: Path, config: PointEncoderConfig = ULIP2) -> UlipEncoder:
    """Load the point encoder of ULIP-2's training checkpoint.

    Raises:
        FormatError: if the file does not match `config`.
    """
    return load_named(partial(UlipEncoder, config), read_tensors(path), path.name, unused=_UNUSED)
