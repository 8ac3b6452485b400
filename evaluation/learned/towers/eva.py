"""EVA02-E-14-plus, the image tower beside Uni3D: absolute positions only (no rotary), norms behind each branch.

Source: timm's `eva02_enormous_patch14_clip_224` and open_clip's EVA02-E-14-plus, whose checkpoint holds the tower below
`visual.trunk.`, its last layer (`head`) being the projection into the shared space.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn

from helix4d.core import FormatError
from helix4d.evaluation.learned.towers.transformer import Block, BlockConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors, select

_PREFIX = "visual.trunk."


@dataclass(frozen=True)
class EvaConfig:
    """Sizes of the tower.

    Args:
        image_size: pixels per side.
        patch: pixels per side.
        width: channels.
        layers: blocks.
        heads: of the attention.
        hidden: channels inside the MLPs.
        embedding: channels of the shared space.
    """

    image_size: int = 224
    patch: int = 14
    width: int = 1792
    layers: int = 64
    heads: int = 16
    hidden: int = 15360
    embedding: int = 1024


EVA02_E_PLUS = EvaConfig()


class EvaTower(nn.Module):
    """(B, 3, S, S) normalized pixels → (B, embedding) features, not normalized."""

    def __init__(self, config: EvaConfig) -> None:
        super().__init__()
        block = BlockConfig(config.width, config.heads, config.hidden, bias="split", post_norm=True)
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, (config.image_size // config.patch) ** 2 + 1, config.width))
        self.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, block.eps)
        self.head = nn.Linear(config.width, config.embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)  # type: ignore[operator]
        x = torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.head(self.norm(x)[:, 0])
        return features


def load_eva(path: Path, config: EvaConfig = EVA02_E_PLUS) -> EvaTower:
    """The image tower of open_clip's checkpoint; the text tower is left in the file.

    Raises:
        FormatError: if the file is no such checkpoint, or does not fit `config`.
    """
    tower = select(read_tensors(path, inside=("state_dict",)), _PREFIX)
    if not tower:
        raise FormatError(f"{path.name}: no EVA image tower: expected names such as {_PREFIX}blocks.0.attn.qkv.weight")
    return load_named(lambda: EvaTower(config), tower, path.name)
