"""EVA02-E-14-plus, Uni3D's image tower: learned absolute positions (no rotary), norms after each branch.

Source: timm's `eva02_enormous_patch14_clip_224` and open_clip's EVA02-E-14-plus, whose checkpoint stores the tower
under `visual.trunk.`; its last layer (`head`) projects to the shared space.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

from torch import Tensor, nn

from helix4d.evaluation.learned.towers.transformer import BlockConfig, Vit, VitConfig
from helix4d.evaluation.learned.weights import load_named, read_tensors

EVA02_E_PLUS = VitConfig(image_size=224, patch=14, width=1792, layers=64, heads=16, hidden=15360, embedding=1024)


class EvaTower(Vit):
    """An image tower: (B, 3, S, S) normalized pixels → (B, embedding) features, not normalized."""

    def __init__(self, config: VitConfig) -> None:
        super().__init__(config, BlockConfig(config.width, config.heads, config.hidden, bias="split", post_norm=True))
        self.head = nn.Linear(config.width, config.embedding)

    def forward(self, pixels: Tensor) -> Tensor:
        x = self.embed(pixels)
        for block in self.blocks:
            x = block(x)
        features: Tensor = self.head(self.norm(x)[:, 0])
        return features


def load_eva(path: Path, config: VitConfig = EVA02_E_PLUS) -> EvaTower:
    """Load the image tower of open_clip's checkpoint; the text tower is not read.

    Raises:
        FormatError: if the file is not such a checkpoint, or does not match `config`.
    """
    return load_named(partial(EvaTower, config), read_tensors(path), path.name, prefix="visual.trunk.")
