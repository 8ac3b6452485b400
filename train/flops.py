"""Count the arithmetic operations of a training step, excluding recomputation by activation checkpointing."""

from __future__ import annotations

from collections.abc import Sequence

import torch

from helix4d.model.networks.attention import plan_self_attention
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.model.networks.frames import FrameLayout

BF16_PEAK = {"H100": 989e12, "H200": 989e12, "A100": 312e12}
"""Dense bfloat16 operations per second from the vendors' data sheets, by a substring of the device's name."""


def step_flops(
    config: FlowConfig, video: VideoConfig, lengths: Sequence[tuple[int, ...]], cond_tokens: int, all_trained: bool
) -> float:
    """Count the operations of a forward and a backward pass.

    Args:
        config, video: configuration of the network.
        lengths: number of tokens of each frame of each clip.
        cond_tokens: number of image tokens per frame.
        all_trained: whether all parameters have gradients, or only those of self-attention.
    """
    layout = FrameLayout(tuple(lengths))
    width, tokens, frames = config.model_channels, layout.tokens, layout.frames
    plan = plan_self_attention(layout, layout, video)
    pairs = sum((s.query[1] - s.query[0]) * s.key_tokens for s in plan.segments) + tokens * cond_tokens
    attention = 3 * 4.0 * pairs * width  # two products forward, twice that backward
    own = 2.0 * tokens * 4 * width**2  # to_qkv and to_out
    other = 2.0 * tokens * (2 * width**2 + 2 * width * config.mlp_channels)  # cross-attention's q and out, and the MLP
    image = 2.0 * frames * cond_tokens * config.cond_channels * 2 * width  # keys and values of the image tokens
    passes = 3 if all_trained else 2  # forward, gradient of the input, and gradient of the weights if trained
    return config.num_blocks * (attention + 3 * own + passes * other + (2 if all_trained else 1) * image)


def peak_flops(device: torch.device) -> float | None:
    """Return the device's peak bfloat16 operations per second, or None if unknown."""
    if device.type != "cuda":
        return None
    name = torch.cuda.get_device_name(device)
    return next((peak for part, peak in BF16_PEAK.items() if part in name), None)
