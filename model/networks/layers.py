"""Layers shared by all networks, with explicit precision and no hidden randomness.

Parameters keep their own type (float32 if trained, any if frozen) and are cast to the type of the activations when
used; normalizations run in float32. Parameters are zero until they are loaded from a checkpoint or set by
`helix4d.model.networks.initialize`; no global generator is involved.
"""

from __future__ import annotations

import math

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Linear(nn.Linear):
    """`y = x Wᵀ + b` in the dtype of x, independent of that of the parameters."""

    def reset_parameters(self) -> None:
        _zero(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., in] to [..., out]."""
        return F.linear(x, self.weight.to(x.dtype), None if self.bias is None else self.bias.to(x.dtype))


class Conv3d(nn.Conv3d):
    """A dense 3D convolution in the type of x."""

    def reset_parameters(self) -> None:
        _zero(self)

    def forward(self, x: Tensor) -> Tensor:
        """Map [B, in, X, Y, Z] to [B, out, X', Y', Z']."""
        bias = None if self.bias is None else self.bias.to(x.dtype)
        return self._conv_forward(x, self.weight.to(x.dtype), bias)


class LayerNorm(nn.LayerNorm):
    """Layer normalization over the last axis, computed in float32 and returned in the type of x."""

    def forward(self, x: Tensor) -> Tensor:
        """Map [..., C] to [..., C]."""
        wide = upcast(x)
        weight = None if self.weight is None else self.weight.to(wide.dtype)
        bias = None if self.bias is None else self.bias.to(wide.dtype)
        return F.layer_norm(wide, self.normalized_shape, weight, bias, self.eps).to(x.dtype)


class TimestepEmbedder(nn.Module):
    """Timestep embedding (of 1000 t): 256 sinusoids, then a two-layer MLP with SiLU."""

    frequencies = 128

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(2 * self.frequencies, channels), nn.SiLU(), Linear(channels, channels))

    def forward(self, timesteps: Tensor) -> Tensor:
        """Map [F] to [F, C]."""
        embedding: Tensor = self.mlp(timestep_sinusoids(timesteps, self.frequencies))
        return embedding


def timestep_sinusoids(timesteps: Tensor, frequencies: int) -> Tensor:
    """Map [F] to [F, 2 · frequencies]: cosines, then sines of t · 10000^(−i/frequencies), i < frequencies."""
    exponent = torch.arange(frequencies, device=timesteps.device, dtype=torch.float32) / frequencies
    angles = timesteps[:, None] * torch.exp(-math.log(10000.0) * exponent).to(timesteps.dtype)
    return torch.cat([angles.cos(), angles.sin()], dim=-1)


class FeedForward(nn.Module):
    """Two linear layers with a tanh GELU between them."""

    def __init__(self, channels: int, hidden: int) -> None:
        super().__init__()
        self.mlp = nn.Sequential(Linear(channels, hidden), nn.GELU(approximate="tanh"), Linear(hidden, channels))

    def forward(self, x: Tensor) -> Tensor:
        """Map [L, C] to [L, C]."""
        y: Tensor = self.mlp(x)
        return y


def upcast(x: Tensor) -> Tensor:
    """Convert 16-bit dtypes to float32; float32 and float64 are returned unchanged."""
    return x if x.dtype in (torch.float32, torch.float64) else x.float()


def _zero(layer: nn.Linear | nn.Conv3d) -> None:
    nn.init.zeros_(layer.weight)
    if layer.bias is not None:
        nn.init.zeros_(layer.bias)
