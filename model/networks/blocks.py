"""Transformer block of a flow network: self-attention, cross-attention and an MLP with shared modulation."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn

from helix4d.model.networks.attention.plan import AttentionPlan
from helix4d.model.networks.config import FlowConfig
from helix4d.model.networks.layers import FeedForward, LayerNorm, Linear
from helix4d.model.networks.pointwise.functions import (
    TokenFrames,
    affine_norm,
    gated_residual,
    modulated_norm,
    rms_norm_rotary,
)

_EPS = 1e-6


@dataclass(frozen=True)
class KeyValue:
    """Keys (normalized, with rotary applied) and values of one layer, both [S, H, d]."""

    key: Tensor
    value: Tensor


@dataclass(eq=False)  # not frozen, for the reason that `AttentionPlan` is not
class TokenContext:
    """Per-batch information about tokens that all blocks share; built once per forward pass.

    Attributes:
        frames: frame of each token.
        cos, sin: float32 [L, d/2], rotary embedding.
        self_plan, cross_plan: plans of self-attention and cross-attention.
        anchor_splits: tokens of each clip here and in the anchor cache, if one is used.
    """

    frames: TokenFrames
    cos: Tensor
    sin: Tensor
    self_plan: AttentionPlan
    cross_plan: AttentionPlan
    anchor_splits: tuple[list[int], list[int]] | None = None

    @torch.compiler.disable  # the lengths are plain integers, as in `AttentionPlan.attend`
    def with_anchor(self, own: KeyValue, anchor: KeyValue) -> KeyValue:
        """Prepend each clip's anchor to its own keys and values, in the order of `self_plan`: [S₀ + L, H, d]."""
        if self.anchor_splits is None:
            raise ValueError("an anchor was passed, but the attention plan was built without one")
        own_lengths, anchor_lengths = self.anchor_splits

        def interleave(own: Tensor, anchor: Tensor) -> Tensor:
            clips = zip(anchor.to(own.dtype).split(anchor_lengths), own.split(own_lengths), strict=True)
            return torch.cat([part for clip in clips for part in clip])

        return KeyValue(interleave(own.key, anchor.key), interleave(own.value, anchor.value))


class Block(nn.Module):
    """Adaptive-norm block: the modulation of a frame is `modulation` plus the part shared by all blocks."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width = config.model_channels
        self.norm2 = LayerNorm(width, eps=_EPS)  # the other two norms have no parameters
        self.self_attn = SelfAttention(config)
        self.cross_attn = CrossAttention(config)
        self.mlp = FeedForward(width, config.mlp_channels)
        self.modulation = nn.Parameter(torch.zeros(6 * width))

    def forward(
        self, x: Tensor, shared: Tensor, cond: Tensor, context: TokenContext, anchor: KeyValue | None = None
    ) -> tuple[Tensor, KeyValue]:
        """Map tokens [L, C], shared modulation [F, 6 C] and image tokens [F M, C'] to tokens [L, C] and layer keys."""
        shift1, scale1, gate1, shift2, scale2, gate2 = (self.modulation + shared).chunk(6, dim=1)
        frames = context.frames
        h, own = self.self_attn(modulated_norm(x, scale1, shift1, frames, _EPS), context, anchor)
        x = gated_residual(x, h, gate1, frames)
        h = affine_norm(x, self.norm2.weight, self.norm2.bias, frames, _EPS)
        x = x + self.cross_attn(h, cond, context)
        h = self.mlp(modulated_norm(x, scale2, shift2, frames, _EPS))
        return gated_residual(x, h, gate2, frames), own


class HeadRMSNorm(nn.Module):
    """Query-key normalization per head, and the rotary embedding after it: `rms_norm_rotary` with a learned γ."""

    def __init__(self, heads: int, head_channels: int) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.ones(heads, head_channels))

    def forward(self, x: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Map [L, H, d] to [L, H, d] in the type of x; `rotary` holds cosines and sines [L, d/2]."""
        return rms_norm_rotary(x, self.gamma, rotary)


class SelfAttention(nn.Module):
    """Attention between the frames of a clip: the only part that Helix4D fine-tunes."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width, self.heads = config.model_channels, config.num_heads
        self.to_qkv = Linear(width, 3 * width)
        self.q_rms_norm = HeadRMSNorm(self.heads, config.head_channels)
        self.k_rms_norm = HeadRMSNorm(self.heads, config.head_channels)
        self.to_out = Linear(width, width)

    def forward(self, x: Tensor, context: TokenContext, anchor: KeyValue | None) -> tuple[Tensor, KeyValue]:
        """Map [L, C] to [L, C]; also return this layer's keys and values [L, H, d]."""
        q, k, v = self.to_qkv(x).unflatten(-1, (3, self.heads, -1)).unbind(1)
        rotary = (context.cos, context.sin)
        q, k = self.q_rms_norm(q, rotary), self.k_rms_norm(k, rotary)
        own = KeyValue(k, v)
        if anchor is not None and context.self_plan.reads_in_place:
            h = context.self_plan.attend(q, k, v, (anchor.key.to(k.dtype), anchor.value.to(v.dtype)))
        else:
            visible = own if anchor is None else context.with_anchor(own, anchor)
            h = context.self_plan.attend(q, visible.key, visible.value)
        return self.to_out(h.flatten(1)), own


class CrossAttention(nn.Module):
    """Attention from each frame to the tokens of its own image, without rotary embedding."""

    def __init__(self, config: FlowConfig) -> None:
        super().__init__()
        width, self.heads = config.model_channels, config.num_heads
        self.to_q = Linear(width, width)
        self.to_kv = Linear(config.cond_channels, 2 * width)
        self.q_rms_norm = HeadRMSNorm(self.heads, config.head_channels)
        self.k_rms_norm = HeadRMSNorm(self.heads, config.head_channels)
        self.to_out = Linear(width, width)

    def forward(self, x: Tensor, cond: Tensor, context: TokenContext) -> Tensor:
        """Map tokens [L, C] and image tokens [F M, C'] to [L, C]."""
        q = self.to_q(x).unflatten(-1, (self.heads, -1))
        k, v = self.to_kv(cond).unflatten(-1, (2, self.heads, -1)).unbind(1)
        q, k = self.q_rms_norm(q), self.k_rms_norm(k)
        h: Tensor = self.to_out(context.cross_plan.attend(q, k, v).flatten(1))
        return h
