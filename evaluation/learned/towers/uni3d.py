"""Uni3D's point encoder, whose transformer is EVA giant, with the parameter names of its checkpoint.

Source: baaivision/Uni3D, `PointcloudEncoder` in models/point_encoder.py and scripts/inference.sh (giant); timm's
`eva_giant_patch14_560`, of which the blocks and `fc_norm` are used (it pools by average, so it has no `norm`).
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from helix4d.evaluation.learned.towers.point_tokens import PointEncoderConfig, PointTokens
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

# The checkpoint also holds EVA's layers for images and classes, which points do not pass through.
_UNUSED = (
    "logit_scale",
    *(f"point_encoder.visual.{name}" for name in ("patch_embed.", "pos_embed", "cls_token", "head.")),
)

UNI3D_G = PointEncoderConfig(
    groups=512, size=64, token=512, width=1408, layers=40, heads=16, hidden=6144, embedding=1024
)


class Uni3dEncoder(nn.Module):
    """A point encoder: (B, N, 6) clouds, normalized, sRGB in [0, 1] → (B, embedding) features, not normalized."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.point_encoder = _PointEncoder(config)

    def forward(self, clouds: Tensor) -> Tensor:
        features: Tensor = self.point_encoder(clouds)
        return features


class _PointEncoder(PointTokens):
    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__(config)
        block = BlockConfig(config.width, config.heads, config.hidden, bias="split")
        self.encoder2trans = nn.Linear(config.token, config.width)
        self.trans2embed = nn.Linear(config.width, config.embedding)
        self.visual = nn.Module()
        self.visual.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.visual.fc_norm = nn.LayerNorm(config.width, block.eps)

    def forward(self, clouds: Tensor) -> Tensor:
        tokens, positions = self.embed(clouds, self.encoder2trans)
        x = tokens + positions
        for block in self.visual.blocks:  # type: ignore[union-attr]
            x = block(x)
        features: Tensor = self.trans2embed(self.visual.fc_norm(x[:, 0]))  # type: ignore[operator]
        return features


def load_uni3d(path: Path, config: PointEncoderConfig = UNI3D_G) -> Uni3dEncoder:
    """Load the point encoder of Uni3D's training checkpoint.

    Raises:
        FormatError: if the file does not match `config`.
    """
    return load_named(partial(Uni3dEncoder, config), read_tensors(path), path.name, unused=_UNUSED)
