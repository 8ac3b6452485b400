"""Sparse-structure VAE: encodes a 64^3 occupancy as an 8 x 16^3 latent and decodes it, with dense 3D convolutions."""

from __future__ import annotations

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError
from helix4d.model.networks.config import DenseDecoderConfig, DenseEncoderConfig
from helix4d.model.networks.layers import Conv3d, LayerNorm


class DenseEncoder(nn.Module):
    """`SparseStructureEncoder` of TRELLIS.2."""

    def __init__(self, config: DenseEncoderConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        widths = config.channels
        self.input_layer = Conv3d(config.in_channels, widths[0], 3, padding=1)
        self.blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            self.blocks.extend(ResidualBlock(width) for _ in range(config.num_res_blocks))
            if level + 1 < len(widths):
                self.blocks.append(Downsample(width, widths[level + 1]))
        self.middle_block = nn.Sequential(*(ResidualBlock(widths[-1]) for _ in range(config.num_res_blocks_middle)))
        self.out_layer = nn.Sequential(
            ChannelLayerNorm(widths[-1]), nn.SiLU(), Conv3d(widths[-1], 2 * config.latent_channels, 3, padding=1)
        )

    def forward(self, occupancy: Tensor) -> tuple[Tensor, Tensor]:
        """Map a binary [B, 1, R, R, R] to the latent's mean and log variance, both [B, 8, R/4, R/4, R/4]."""
        _check_grid(occupancy, self.config.in_channels, "occupancy")
        h = self.input_layer(occupancy).to(self.compute_dtype)
        for block in self.blocks:
            h = block(h)
        h = self.middle_block(h)
        mean, logvar = self.out_layer(h.to(occupancy.dtype)).chunk(2, dim=1)
        return mean, logvar


class DenseDecoder(nn.Module):
    """`SparseStructureDecoder` of TRELLIS.2."""

    def __init__(self, config: DenseDecoderConfig) -> None:
        super().__init__()
        self.config = config
        self.compute_dtype = torch.float32
        widths = config.channels
        self.input_layer = Conv3d(config.latent_channels, widths[0], 3, padding=1)
        self.middle_block = nn.Sequential(*(ResidualBlock(widths[0]) for _ in range(config.num_res_blocks_middle)))
        self.blocks = nn.ModuleList()
        for level, width in enumerate(widths):
            self.blocks.extend(ResidualBlock(width) for _ in range(config.num_res_blocks))
            if level + 1 < len(widths):
                self.blocks.append(Upsample(width, widths[level + 1]))
        self.out_layer = nn.Sequential(
            ChannelLayerNorm(widths[-1]), nn.SiLU(), Conv3d(widths[-1], config.out_channels, 3, padding=1)
        )

    def forward(self, z: Tensor) -> Tensor:
        """Map [B, 8, r, r, r] to occupancy logits [B, 1, 4r, 4r, 4r]; voxels with positive logits are occupied."""
        _check_grid(z, self.config.latent_channels, "latent")
        h = self.input_layer(z).to(self.compute_dtype)
        h = self.middle_block(h)
        for block in self.blocks:
            h = block(h)
        logits: Tensor = self.out_layer(h.to(z.dtype))
        return logits


class ResidualBlock(nn.Module):
    """Residual block: x + conv(SiLU(LN(conv(SiLU(LN(x))))))."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.norm1 = ChannelLayerNorm(channels)
        self.norm2 = ChannelLayerNorm(channels)
        self.conv1 = Conv3d(channels, channels, 3, padding=1)
        self.conv2 = Conv3d(channels, channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, X, Y, Z] to the same shape."""
        h = self.conv1(F.silu(self.norm1(x)))
        h = self.conv2(F.silu(self.norm2(h)))
        return x + h


class Downsample(nn.Module):
    """Convolution with kernel size and stride 2."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, out_channels, 2, stride=2)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, X, Y, Z] to [B, out, X/2, Y/2, Z/2]."""
        y: Tensor = self.conv(x)
        return y


class Upsample(nn.Module):
    """Convolution to eight times the channels, followed by a pixel shuffle."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.conv = Conv3d(in_channels, 8 * out_channels, 3, padding=1)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, X, Y, Z] to [B, out, 2X, 2Y, 2Z]."""
        return pixel_shuffle(self.conv(x))


class ChannelLayerNorm(LayerNorm):
    """Layer normalization over the channels of a grid, eps 1e-5."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, C, X, Y, Z] to the same shape."""
        return super().forward(x.movedim(1, -1)).movedim(-1, 1)


def pixel_shuffle(x: Tensor) -> Tensor:
    """Map [B, 8 C, X, Y, Z] to [B, C, 2X, 2Y, 2Z]; input channels are ordered as (channel, x, y, z offset)."""
    batch, _, *size = x.shape
    x = x.unflatten(1, (-1, 2, 2, 2)).permute(0, 1, 5, 2, 6, 3, 7, 4)
    return x.reshape(batch, -1, *(2 * n for n in size))


def _check_grid(x: Tensor, channels: int, what: str) -> None:
    if x.ndim != 5 or x.shape[1] != channels:
        raise ConfigError(f"{what} has shape {tuple(x.shape)}: expected [B, {channels}, X, Y, Z]")
