"""Describe a run without starting it: shapes, parameters, memory, steps."""

from __future__ import annotations

from math import ceil

from helix4d.model.networks.flow import Checkpointing
from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader
from helix4d.train.network import build_empty, trained_names

_BYTES_PER_ACTIVATION = 72
"""Bytes that a block keeps for its backward pass per token and channel, in bfloat16 (measured in tests/model/)."""


def plan_run(config: TrainConfig) -> str:
    """Return a human-readable summary of several lines."""
    network = build_empty(config)
    names = set(trained_names(network, config.network))
    sizes = {name: p.numel() for name, p in network.named_parameters()}
    trained = sum(n for name, n in sizes.items() if name in names)
    frozen = sum(sizes.values()) - trained
    reader = ClipReader(config.data, config.stage)
    flow = network.config
    costs = reader.costs(flow.resolution)
    epoch = ceil(len(reader) / config.batch)
    microbatch = max(max(costs), min(config.tokens_per_microbatch, sum(costs)))
    weights, activations = _memory(config, trained, frozen, microbatch, flow.model_channels, flow.num_blocks)
    shape = f"[F, {flow.in_channels}, {flow.resolution}³]" if config.stage is Stage.STRUCTURE else "[L, in]"
    lines = [
        f"{config.name}: {config.stage} stage, {flow.num_blocks} blocks of {flow.model_channels} channels",
        f"input {shape} with {flow.in_channels} channels, output with {flow.out_channels}, grid {flow.resolution}³",
        f"attention {config.network.video.pattern}, temporal rotary {config.network.video.temporal}, "
        f"kept {config.network.video.kept}, first frame {'clean' if config.network.first_frame else 'noisy'}",
        f"parameters: {trained:,} trained in float32, {frozen:,} frozen in {config.network.precision}",
        f"data: {len(reader)} clips of {min(costs):,} to {max(costs):,} tokens, {sum(costs):,} in total",
        f"steps: {config.steps:,} of {config.batch} clips; {epoch:,} steps per epoch, "
        f"{config.steps * config.batch / len(reader):.1f} epochs in total",
        f"memory per rank: {weights / 1e9:.2f} GB for weights, gradients, Adam state and moving average"
        f"{', divided by the number of ranks' if config.network.shard else ''}; about "
        f"{activations / 1e9:.2f} GB for the activations of {microbatch:,} tokens",
    ]
    return "\n".join(lines) + "\n"


def _memory(config: TrainConfig, trained: int, frozen: int, tokens: int, width: int, blocks: int) -> tuple[int, int]:
    """Estimate the bytes for weights and for activations."""
    item_bytes = 2 if config.network.precision == "bfloat16" else 4
    weights = trained * (4 + 4 + 8 + 4) + frozen * item_bytes
    block_input = tokens * width * item_bytes
    block = tokens * width * _BYTES_PER_ACTIVATION * item_bytes // 2
    activations = {Checkpointing.NONE: blocks * block, Checkpointing.BLOCKS: blocks * block_input + block}
    return weights, activations.get(config.network.checkpointing, 2 * blocks * block_input + block)
