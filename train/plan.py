"""Describe a run without starting it: shapes, parameters, measured memory, steps."""

from __future__ import annotations

from math import ceil

from helix4d.train.config import Stage, TrainConfig
from helix4d.train.data.dataset import ClipReader
from helix4d.train.data.schedule import Schedule, busy_share
from helix4d.train.memory import step_memory
from helix4d.train.network import build_empty, trained_names

_RANKS = (1, 2, 4, 8, 16, 32, 64)


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
    memory = step_memory(config, flow, [_frames(microbatch, max(len(entry.tokens) for entry in reader.entries))])
    shape = f"[F, {flow.in_channels}, {flow.resolution}³]" if config.stage is Stage.STRUCTURE else "[L, in]"
    schedule = reader.schedule(flow.resolution, config.seed)
    busy = [f"{_busy(schedule, config, ranks):.2f} with {ranks}" for ranks in _RANKS if ranks <= config.batch]
    lines = [
        f"{config.name}: {config.stage} stage, {flow.num_blocks} blocks of {flow.model_channels} channels",
        f"input {shape} with {flow.in_channels} channels, output with {flow.out_channels}, grid {flow.resolution}³",
        f"attention {config.network.video.pattern}, temporal rotary {config.network.video.temporal}, "
        f"kept {config.network.video.kept}, first frame {'clean' if config.network.first_frame else 'noisy'}",
        f"parameters: {trained:,} trained in float32"
        f"{'' if config.network.rank is None else f' (updates of rank {config.network.rank})'}, {frozen:,} frozen, "
        f"matrices of the blocks in {config.network.precision}",
        f"data: {len(reader)} clips of {min(costs):,} to {max(costs):,} tokens, {sum(costs):,} in total",
        f"steps: {config.steps:,} of {config.batch} clips; {epoch:,} steps per epoch, "
        f"{config.steps * config.batch / len(reader):.1f} epochs in total",
        f"busy share, by tokens: {', '.join(busy)} ranks",
        f"memory per rank: {memory.peak / 1e9:.2f} GB at the peak of a microbatch of {microbatch:,} tokens, of which "
        f"{memory.state / 1e9:.2f} GB for weights, gradients, Adam state and moving average"
        f"{' (divided by the number of ranks)' if config.network.shard else ''}; the image encoder and CUDA's "
        "libraries come on top",
    ]
    return "\n".join(lines) + "\n"


def _busy(schedule: Schedule, config: TrainConfig, ranks: int) -> float:
    """Simulate the steps of an epoch, but at most 256, and return the busy share of this number of ranks."""
    epoch = ceil(len(schedule.costs) / config.batch)
    steps = range(min(max(epoch, schedule.balance_steps), 256))
    shares = [schedule.shares(step * config.batch, config.batch, ranks, config.tokens_per_microbatch) for step in steps]
    return busy_share([schedule.totals(share) for share in shares])


def _frames(tokens: int, frames: int) -> tuple[int, ...]:
    """Divide the tokens of a microbatch evenly among the frames of one clip, the longest."""
    whole, rest = divmod(tokens, frames)
    return tuple(whole + (frame < rest) for frame in range(frames))
