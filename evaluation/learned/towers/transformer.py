"""The transformer blocks of timm's lineage, with its parameter names: Point-BERT, DINO and EVA differ in switches.

Sources: DINO's `vision_transformer.py`, ULIP's `point_encoder.py` (both from timm) and timm's `eva.py`.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from helix4d.core import ConfigError


@dataclass(frozen=True)
class BlockConfig:
    """One block.

    Args:
        width: channels.
        heads: of the attention.
        hidden: channels inside the MLP.
        bias: of queries, keys and values: "full" (`qkv.bias`), "split" (EVA's `q_bias` and `v_bias`, keys have none) or
            "none".
        eps: of the layer norms.
        quick_gelu: x · sigmoid(1.702 x) in place of GELU.
        post_norm: norms behind attention and MLP, inside the residual branches (EVA02-E), in place of before them.
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
            raise ConfigError(f"{self.width} channels in {self.heads} heads: they must divide")
        if self.bias not in ("full", "split", "none"):
            raise ConfigError(f"bias {self.bias!r}: expected full, split or none")


class Block(nn.Module):
    """(B, L, width) → the same."""

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
