"""A neighborhood of points becomes one token: the small PointNet that ULIP-2 and Uni3D share.

Source: `Encoder` in ULIP's `dvae.py` and Uni3D's `point_encoder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn


@dataclass(frozen=True)
class PointEncoderConfig:
    """Sizes of a point encoder.

    Args:
        groups: tokens of a cloud.
        size: points of a group.
        token: channels of the PointNet's output.
        width: channels of the transformer.
        layers: blocks.
        heads: of the attention.
        hidden: channels inside the MLPs.
        embedding: channels of the shared space, those of the image tower.
    """

    groups: int
    size: int
    token: int
    width: int
    layers: int
    heads: int
    hidden: int
    embedding: int


class GroupEncoder(nn.Module):
    """(B, G, K, 6) points relative to their center, with colors → (B, G, channels). The order of the K is no matter."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.first_conv = nn.Sequential(nn.Conv1d(6, 128, 1), nn.BatchNorm1d(128), nn.ReLU(), nn.Conv1d(128, 256, 1))
        self.second_conv = nn.Sequential(
            nn.Conv1d(512, 512, 1), nn.BatchNorm1d(512), nn.ReLU(), nn.Conv1d(512, channels, 1)
        )

    def forward(self, members: Tensor) -> Tensor:
        batch, groups, size, channels = members.shape
        each = self.first_conv(members.reshape(batch * groups, size, channels).transpose(1, 2))
        whole = each.amax(dim=2, keepdim=True).expand_as(each)
        together = self.second_conv(torch.cat([whole, each], dim=1)).amax(dim=2)
        return together.view(batch, groups, -1)


def position_mlp(width: int) -> nn.Sequential:
    """Centers to positions: (…, 3) → (…, width)."""
    return nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, width))
