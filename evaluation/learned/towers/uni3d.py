"""Uni3D's point encoder, whose transformer is EVA giant, with its checkpoint's names.

Source: baaivision/Uni3D, `PointcloudEncoder` in models/point_encoder.py and scripts/inference.sh (giant); timm's
`eva_giant_patch14_560`, of which the blocks and `fc_norm` are used (it pools by average, so its `norm` is empty).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.evaluation.learned.points import group
from helix4d.evaluation.learned.towers.point_tokens import GroupEncoder, PointEncoderConfig, position_mlp
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors, unwrapped

# EVA's parts for images and classes are in the file, but no point goes through them.
_UNUSED = (
    "logit_scale",
    *(f"point_encoder.visual.{name}" for name in ("patch_embed.", "pos_embed", "cls_token", "head.")),
)


UNI3D_G = PointEncoderConfig(
    groups=512, size=64, token=512, width=1408, layers=40, heads=16, hidden=6144, embedding=1024
)


class Uni3dEncoder(nn.Module):
    """(B, N, 6) clouds, normalized, sRGB in [0, 1] → (B, embedding) features, not normalized."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.point_encoder = _PointEncoder(config)

    def forward(self, clouds: Tensor) -> Tensor:
        features: Tensor = self.point_encoder(clouds)
        return features


class _PointEncoder(nn.Module):
    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        block = BlockConfig(config.width, config.heads, config.hidden, bias="split")
        self.encoder = GroupEncoder(config.token)
        self.encoder2trans = nn.Linear(config.token, config.width)
        self.trans2embed = nn.Linear(config.width, config.embedding)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = position_mlp(config.width)
        self.visual = nn.Module()
        self.visual.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.visual.fc_norm = nn.LayerNorm(config.width, block.eps)
        self._config = config

    def forward(self, clouds: Tensor) -> Tensor:
        members, centers = group(clouds, self._config.groups, self._config.size)
        x = torch.cat(
            [
                (self.cls_token + self.cls_pos).expand(len(clouds), -1, -1),
                self.encoder2trans(self.encoder(members)) + self.pos_embed(centers),
            ],
            dim=1,
        )
        for block in self.visual.blocks:  # type: ignore[union-attr]
            x = block(x)
        features: Tensor = self.trans2embed(self.visual.fc_norm(x[:, 0]))  # type: ignore[operator]
        return features


def load_uni3d(path: Path, config: PointEncoderConfig = UNI3D_G) -> Uni3dEncoder:
    """The point encoder of Uni3D's training checkpoint.

    Raises:
        FormatError: if the file does not fit `config`.
    """
    named = unwrapped(read_tensors(path, inside=("module", "state_dict")))
    return load_named(lambda: Uni3dEncoder(config), named, path.name, _UNUSED)
