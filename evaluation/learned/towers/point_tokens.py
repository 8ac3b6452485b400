"""A point cloud becomes tokens: the small PointNet and the position encoding that ULIP-2 and Uni3D share.

Source: `Encoder` in ULIP's `dvae.py` and Uni3D's `point_encoder.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helix4d.evaluation.learned.points import group


@dataclass(frozen=True)
class PointEncoderConfig:
    """Sizes of a point encoder.

    Args:
        groups: number of groups of a cloud, and of their tokens.
        size: number of points in a group.
        token: number of channels of the PointNet's output.
        width: number of channels of the transformer.
        layers: number of blocks.
        heads: number of attention heads.
        hidden: number of channels inside the MLPs.
        embedding: number of channels of the features, equal to those of the image tower.
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
    """(B, G, K, 6) points relative to their center, with colors → (B, G, channels), invariant to the order of K."""

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


class PointTokens(nn.Module):
    """The first layers of a point encoder: groups of points become tokens with positions, after a class token."""

    def __init__(self, config: PointEncoderConfig) -> None:
        super().__init__()
        self.encoder = GroupEncoder(config.token)
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.cls_pos = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Sequential(nn.Linear(3, 128), nn.GELU(), nn.Linear(128, config.width))
        self._groups, self._size = config.groups, config.size

    def embed(self, clouds: Tensor, projection: nn.Linear) -> tuple[Tensor, Tensor]:
        """(B, N, 6) clouds → tokens and positions, (B, 1 + groups, width) each.

        Args:
            clouds: normalized points with sRGB colors in [0, 1].
            projection: layer from the PointNet's channels to the transformer's.
        """
        members, centers = group(clouds, self._groups, self._size)
        batch = len(clouds)
        tokens = torch.cat([self.cls_token.expand(batch, -1, -1), projection(self.encoder(members))], dim=1)
        positions = torch.cat([self.cls_pos.expand(batch, -1, -1), self.pos_embed(centers)], dim=1)
        return tokens, positions
