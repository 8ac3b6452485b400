"""ULIP-2's point encoder (`ULIP2_PointBERT_Colored`) with its checkpoint's names.

Source: salesforce/ULIP, `PointTransformer_Colored` in models/pointbert/point_encoder.py, its configuration
ULIP_2_PointBERT_10k_colored_pointclouds.yaml, and `ULIP2_WITH_OPENCLIP` in models/ULIP_models.py.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.evaluation.learned.points import group
from helix4d.evaluation.learned.towers.point_tokens import GroupEncoder, PointEncoderConfig, position_mlp
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors, unwrapped

_UNUSED = ("logit_scale", "open_clip_model.")


ULIP2 = PointEncoderConfig(groups=512, size=32, token=256, width=384, layers=18, heads=6, hidden=1536, embedding=1280)


class UlipEncoder(nn.Module):
    """(B, N, 6) clouds, normalized, sRGB in [0, 1] → (B, embedding) features, not normalized."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.point_encoder = _PointTransformer(config)
        self.pc_projection = nn.Parameter(torch.zeros(2 * config.width, config.embedding))

    def forward(self, clouds: Tensor) -> Tensor:
        features: Tensor = self.point_encoder(clouds) @ self.pc_projection
        return features


class _PointTransformer(nn.Module):
    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        block = BlockConfig(config.width, config.heads, config.hidden, bias="none", eps=1e-5)
        self.encoder = GroupEncoder(config.token)
        self.reduce_dim = nn.Linear(config.token, config.width)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = position_mlp(config.width)
        self.blocks = nn.Module()
        self.blocks.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width)
        self._config = config

    def forward(self, clouds: Tensor) -> Tensor:
        members, centers = group(clouds, self._config.groups, self._config.size)
        batch = len(clouds)
        x = torch.cat([self.cls_token.expand(batch, -1, -1), self.reduce_dim(self.encoder(members))], dim=1)
        positions = torch.cat([self.cls_pos.expand(batch, -1, -1), self.pos_embed(centers)], dim=1)
        for block in self.blocks.blocks:  # type: ignore[union-attr]
            x = block(x + positions)  # positions are added before every block
        x = self.norm(x)
        return torch.cat([x[:, 0], x[:, 1:].amax(dim=1)], dim=-1)


def load_ulip(path: Path, config: PointEncoderConfig = ULIP2) -> UlipEncoder:
    """The point encoder of ULIP-2's training checkpoint.

    Raises:
        FormatError: if the file does not fit `config`.
    """
    named = unwrapped(read_tensors(path, inside=("state_dict",)))
    return load_named(lambda: UlipEncoder(config), named, path.name, _UNUSED)
