"""Count the arithmetic operations of a training step, excluding recomputation by activation checkpointing."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import torch

from helix4d.model.networks.attention.plan import AttentionPlan, plan_self_attention
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.model.networks.frames import FrameLayout

BF16_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second from the vendors' datasheets, by a substring of the device's name."""


@dataclass(frozen=True)
class PassFlops:
    """Operations of one pass through all blocks.

    Attributes:
        attention: products of self-attention and cross-attention.
        self_attention_matrices: projections of self-attention, which Helix4D trains.
        other_matrices: projections of cross-attention's queries and outputs, and the MLP.
        image_matrices: projections of the image tokens to keys and values.
    """

    attention: float
    self_attention_matrices: float
    other_matrices: float
    image_matrices: float

    @property
    def total(self) -> float:
        """Operations of the pass."""
        return self.attention + self.self_attention_matrices + self.other_matrices + self.image_matrices


def pass_flops(config: FlowConfig, plan: AttentionPlan, cond_tokens: int) -> PassFlops:
    """Count the operations of a forward pass over the queries of `plan`, with `cond_tokens` image tokens per frame."""
    width, tokens, frames = config.model_channels, plan.queries.tokens, plan.queries.frames
    pairs = sum((s.query[1] - s.query[0]) * s.key_tokens for s in plan.segments) + tokens * cond_tokens
    return PassFlops(
        attention=config.num_blocks * 4.0 * pairs * width,
        self_attention_matrices=config.num_blocks * 2.0 * tokens * 4 * width**2,
        other_matrices=config.num_blocks * 2.0 * tokens * (2 * width**2 + 2 * width * config.mlp_channels),
        image_matrices=config.num_blocks * 2.0 * frames * cond_tokens * config.cond_channels * 2 * width,
    )


def step_flops(
    config: FlowConfig,
    video: VideoConfig,
    lengths: Sequence[tuple[int, ...]],
    cond_tokens: int,
    all_trained: bool,
    low_rank: bool = False,
) -> float:
    """Count the operations of a forward and a backward pass.

    Args:
        config, video: configuration of the network.
        lengths: number of tokens of each frame of each clip.
        cond_tokens: number of image tokens per frame.
        all_trained: whether all parameters have gradients, or only those of self-attention.
        low_rank: whether only low-rank updates of self-attention have gradients; their own products are not counted.
    """
    layout = FrameLayout(tuple(lengths))
    forward = pass_flops(config, plan_self_attention(layout, layout, video), cond_tokens)
    # Attention has two products forward and twice that backward; a matrix has one forward, one for the gradient of its
    # input, and one for that of its weights if trained.
    passes = 3 if all_trained else 2
    trained = 3 * forward.attention + (2 if low_rank else 3) * forward.self_attention_matrices
    return trained + passes * forward.other_matrices + (passes - 1) * forward.image_matrices


def peak_flops(device: torch.device) -> float | None:
    """Return the device's peak bfloat16 operations per second, or None if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in BF16_PEAK.items() if part in name), None)
