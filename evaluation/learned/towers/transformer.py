"""Transformer blocks and the vision transformer with timm's parameter names, as used by Point-BERT, DINO and EVA.

Sources: DINO's `vision_transformer.py`, ULIP's `point_encoder.py` (both from timm) and timm's `eva.py`. Tests compare
them to transformers' ViT and BEiT.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError


@dataclass(frozen=True)
class BlockConfig:
    """Settings of a transformer block.

    Args:
        width: number of channels.
        heads: number of attention heads.
        hidden: number of channels inside the MLP.
        bias: bias of queries, keys and values: "full" (`qkv.bias`), "split" (EVA's `q_bias` and `v_bias`, none for
            keys) or "none".
        eps: epsilon of the layer norms.
        quick_gelu: use x · sigmoid(1.702 x) instead of GELU.
        post_norm: normalize after attention and MLP, inside the residual branches (EVA02-E), instead of before them.

    Raises:
        ConfigError: if heads do not divide the width, or the kind of bias is unknown.
    """

    width: int
    heads: int
    hidden: int
    bias: str = "full"
    eps: float = 1e-6
    quick_gelu: bool = False
    post_norm: bool = False

    def __post_init__(self) -> None:
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be divisible by heads {self.heads}")
        if self.bias not in ("full", "split", "none"):
            raise ConfigError(f"bias {self.bias!r}: must be full, split or none")


@dataclass(frozen=True)
class VitConfig:
    """Sizes of an image tower.

    Args:
        image_size: pixels per side.
        patch: pixels per side of a patch.
        width: number of channels.
        layers: number of blocks.
        heads: number of attention heads.
        hidden: number of channels inside the MLPs.
        embedding: number of channels of the features.
        quick_gelu: use x · sigmoid(1.702 x) instead of GELU, as OpenAI's CLIP does.

    Raises:
        ConfigError: if patches do not divide the image, or heads the width.
    """

    image_size: int
    patch: int
    width: int
    layers: int
    heads: int
    hidden: int
    embedding: int
    quick_gelu: bool = False

    def __post_init__(self) -> None:
        if self.image_size % self.patch:
            raise ConfigError(f"image_size {self.image_size} must be divisible by patch {self.patch}")
        if self.width % self.heads:
            raise ConfigError(f"width {self.width} must be divisible by heads {self.heads}")

    @property
    def tokens(self) -> int:
        """Number of patches, and one class token."""
        return (self.image_size // self.patch) ** 2 + 1


class Vit(nn.Module):
    """A vision transformer without its head: patches, class token, positions, blocks and a final norm.

    Args:
        config: sizes of the tower.
        block: settings of the blocks.
    """

    def __init__(self, config: VitConfig, block: BlockConfig) -> None:
        super().__init__()
        self.cls_token = nn.Parameter(torch.zeros(1, 1, config.width))
        self.pos_embed = nn.Parameter(torch.zeros(1, config.tokens, config.width))
        self.patch_embed = nn.Module()
        self.patch_embed.proj = nn.Conv2d(3, config.width, config.patch, config.patch)
        self.blocks = nn.ModuleList(Block(block) for _ in range(config.layers))
        self.norm = nn.LayerNorm(config.width, block.eps)

    def embed(self, pixels: Tensor) -> Tensor:
        """(B, 3, S, S) normalized pixels → (B, tokens, width): class token and patches with their positions."""
        patches = self.patch_embed.proj(pixels).flatten(2).transpose(1, 2)  # type: ignore[operator]
        return torch.cat([self.cls_token.expand(len(patches), -1, -1), patches], dim=1) + self.pos_embed


class Block(nn.Module):
    """A transformer block: (B, L, width) → (B, L, width)."""

    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.norm1 = nn.LayerNorm(config.width, config.eps)
        self.attn = _Attention(config)
        self.norm2 = nn.LayerNorm(config.width, config.eps)
        self.mlp = _Mlp(config)
        self._post_norm = config.post_norm

    def forward(self, x: Tensor) -> Tensor:
        if self._post_norm:
            x = x + self.norm1(self.attn(x))
            return x + self.norm2(self.mlp(x))
        x = x + self.attn(self.norm1(x))
        return x + self.mlp(self.norm2(x))


class _Attention(nn.Module):
    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.qkv = nn.Linear(config.width, 3 * config.width, bias=config.bias == "full")
        if config.bias == "split":
            self.q_bias = nn.Parameter(torch.zeros(config.width))
            self.v_bias = nn.Parameter(torch.zeros(config.width))
        self.proj = nn.Linear(config.width, config.width)
        self._heads, self._split = config.heads, config.bias == "split"

    def forward(self, x: Tensor) -> Tensor:
        batch, tokens, width = x.shape
        together = self.qkv(x)
        if self._split:
            together = together + torch.cat([self.q_bias, torch.zeros_like(self.q_bias), self.v_bias])
        q, k, v = together.view(batch, tokens, 3, self._heads, -1).permute(2, 0, 3, 1, 4)
        mixed = F.scaled_dot_product_attention(q, k, v).transpose(1, 2).reshape(batch, tokens, width)
        out: Tensor = self.proj(mixed)
        return out


class _Mlp(nn.Module):
    def __init__(self, config: BlockConfig) -> None:
        super().__init__()
        self.fc1 = nn.Linear(config.width, config.hidden)
        self.fc2 = nn.Linear(config.hidden, config.width)
        self._quick = config.quick_gelu

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.fc1(x)
        hidden = hidden * torch.sigmoid(1.702 * hidden) if self._quick else F.gelu(hidden)
        out: Tensor = self.fc2(hidden)
        return out
