"""Sampling a video of 16 frames: the anchor's cache, single passes, two real steps, and from them the three stages."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import torch

from benchmarks.kit.context import Context, agreed, relative_error
from benchmarks.kit.results import Row
from benchmarks.training_step import FULL, TINY, fill_zeros, random_batch
from helix4d.model.networks.attention.plan import AttentionBackend, plan_self_attention
from helix4d.model.networks.config import FlowConfig, VideoConfig
from helix4d.model.networks.flow import DenseFlow, FlowTransformer, SparseFlow
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.initialize import initialize_flow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor
from helix4d.model.sampling.sampler import (
    SHAPE_SAMPLER,
    STRUCTURE_SAMPLER,
    TEXTURE_SAMPLER,
    SamplerConfig,
    Spread,
    dense_spread,
    guided_velocity,
    packed_spread,
    schedule,
)
from helix4d.model.sampling.velocities import (
    PassVelocity,
    SparseAnchor,
    anchored_dense_velocity,
    anchored_sparse_velocity,
)
from helix4d.train.flops import pass_flops

FRAMES, TOKENS, SHORT = 16, 8192, 512
MOST_S = 30.0
"""Aim for the three stages of a clip."""


@dataclass(frozen=True)
class StepTimes:
    """Seconds of a guided and of a plain step."""

    guided_s: float
    plain_s: float

    def of(self, config: SamplerConfig) -> float:
        """Return the seconds of all steps of a sampler."""
        guided = guided_steps(config)
        return guided * self.guided_s + (config.steps - guided) * self.plain_s


def measure(context: Context) -> Iterator[Row]:
    """Measure the geometry and the structure stage, and extrapolate; the material stage has geometry's passes."""
    geometry = yield from _geometry(context)
    structure = yield from _structure(context)
    parts = {
        "structure": structure.of(STRUCTURE_SAMPLER),
        "geometry": geometry.of(SHAPE_SAMPLER),
        "material": geometry.of(TEXTURE_SAMPLER),
    }
    total = sum(parts.values())
    stages = ", ".join(f"{name} {seconds:.1f} s" for name, seconds in parts.items())
    yield Row(
        f"three stages of a clip, extrapolated: {total:.1f} s ({stages}); without encoder, decoders and frame 0's base",
        context.judge(total <= MOST_S),
        f"at most {MOST_S:.0f} s",
        values={"total_s": total, **parts},
    )


@torch.no_grad()
def graphs(context: Context) -> Iterator[Row]:
    """Replay passes over short frames, in which launching kernels takes longer than running them."""
    tokens = context.pick(SHORT, 16)
    clip = _clip(context, tokens)
    clip.network.attention_backend = AttentionBackend.WINDOW  # `auto` would time all of them first
    eager = clip.velocity(batched=True)
    replayed = eager.graphed()
    expected = eager(clip.x, 900.0, True)
    for _ in range(2):  # the first call runs, the second is captured
        replayed(clip.x, 900.0, True)
    found = replayed(clip.x, 900.0, True)
    yield agreed(f"a replayed pass, {clip.frames} x {tokens} tokens", relative_error(found, expected), 1e-3)
    eager_s = context.seconds(lambda: eager(clip.x, 900.0, True))
    replayed_s = context.seconds(lambda: replayed(clip.x, 900.0, True))
    yield Row(
        f"one pass, {clip.frames} x {tokens} tokens: launched {1e3 * eager_s:.1f} ms, "
        f"replayed {1e3 * replayed_s:.1f} ms",
        values={"eager_s": eager_s, "replayed_s": replayed_s},
    )


def guided_steps(config: SamplerConfig) -> int:
    """Return the number of steps with two passes."""
    return sum(map(config.guides, schedule(config.steps, config.rescale_t)[:-1]))


@dataclass(frozen=True)
class Clip:
    """A geometry network and a random clip whose frame 0 is the anchor; `x` are the tokens of the other `frames`."""

    network: SparseFlow
    anchor: SparseTensor
    layout: SparseLayout
    x: torch.Tensor
    cond: torch.Tensor
    frames: int

    def velocity(self, batched: bool) -> PassVelocity:
        """Return the velocity with both guidance passes in one batch, or one after the other."""
        return anchored_sparse_velocity(
            self.network, SparseAnchor(self.anchor), self.layout, self.cond, batched=batched
        )


def _clip(context: Context, tokens: int) -> Clip:
    config, frames = context.pick(FULL, TINY), context.pick(FRAMES, 4)
    network = _ready(SparseFlow, config, context)
    clip, cond = random_batch(config, frames, tokens, context.torch_device())
    anchor = SparseTensor(clip.feats[:tokens], SparseLayout(clip.coords[:tokens], 1))
    others = clip.coords[tokens:].clone()
    others[:, 0] -= 1
    return Clip(network, anchor, SparseLayout(others, frames - 1), clip.feats[tokens:], cond, frames - 1)


@torch.no_grad()
def _geometry(context: Context) -> Iterator[Row]:
    tokens = context.pick(TOKENS, 16)
    clip = _clip(context, tokens)
    network, x, frames = clip.network, clip.x, clip.frames

    cache_s = context.seconds(lambda: network.anchor_cache(clip.anchor, clip.cond[:1]))
    yield Row(f"anchor's cache, {tokens} tokens: {1e3 * cache_s:.1f} ms", values={"cache_s": cache_s})
    flops = _forward_flops(clip)
    times: dict[bool, StepTimes] = {}
    for batched in (False, True):
        velocity = clip.velocity(batched)
        if not batched:
            single_s = context.seconds(lambda velocity=velocity: velocity(x, 900.0, True), least=1)  # type: ignore[misc]
            yield Row(
                f"one pass, {frames} x {tokens} tokens, anchor cached: {single_s:.3f} s "
                f"({flops / single_s / 1e12:.3g} TFLOP/s)",
                share=context.of_matmul(flops / single_s),
                values={"pass_s": single_s, "flops": flops},
            )
        times[batched] = _steps(context, velocity, x, SHAPE_SAMPLER, packed_spread(clip.layout.lengths))
        yield _steps_row(f"geometry, guidance {'in one batch' if batched else 'in two passes'}", times[batched])
    return min(times.values(), key=lambda steps: steps.of(SHAPE_SAMPLER))


@torch.no_grad()
def _structure(context: Context) -> Iterator[Row]:
    device, frames = context.torch_device(), context.pick(FRAMES, 4)
    side, channels = context.pick(16, 4), 8
    config = replace(context.pick(FULL, TINY), resolution=side, in_channels=channels, out_channels=channels)
    network = _ready(DenseFlow, config, context)
    generator = torch.Generator(device).manual_seed(0)
    grids = torch.randn(frames, channels, side, side, side, generator=generator, device=device)
    cond = torch.randn(frames, context.pick(1029, 21), config.cond_channels, generator=generator, device=device)
    velocity = anchored_dense_velocity(network, grids[0], cond)
    steps = _steps(context, velocity, grids[1:], STRUCTURE_SAMPLER, dense_spread)
    yield _steps_row(f"structure, {frames - 1} x {side**3} tokens", steps)
    return steps


def _ready(kind: type[FlowTransformer], config: FlowConfig, context: Context) -> FlowTransformer:
    """Return a network with random weights, as it is loaded for sampling."""
    device = context.torch_device()
    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    with device:
        network = kind(config, VideoConfig())
    initialize_flow(network, torch.Generator(device).manual_seed(0))
    fill_zeros(network)
    network.compute_dtype = dtype
    return network.to(dtype).eval()


def _steps(
    context: Context, velocity: PassVelocity, x: torch.Tensor, config: SamplerConfig, spread: Spread
) -> StepTimes:
    """Time a real step at the first time, which is guided, and at the last, which is not; both passes are warm."""
    times = schedule(config.steps, config.rescale_t)
    velocity.both(x, 1000 * times[0])
    velocity(x, 0.0, True)

    def step(number: int) -> torch.Tensor:
        now, then = times[number], times[number + 1]
        return x - (now - then) * guided_velocity(velocity, x, now, config, spread)

    return StepTimes(context.once(lambda: step(0)), context.once(lambda: step(config.steps - 1)))


def _steps_row(what: str, steps: StepTimes) -> Row:
    return Row(
        f"{what}: guided step {steps.guided_s:.3f} s, plain step {steps.plain_s:.3f} s",
        values={"guided_s": steps.guided_s, "plain_s": steps.plain_s},
    )


def _forward_flops(clip: Clip) -> float:
    """Count the operations of a pass over the other frames, whose anchor is cached."""
    lengths = clip.layout.lengths
    queries = FrameLayout((lengths,), first_frame=1)
    keys = FrameLayout(((len(clip.anchor.layout), *lengths),))
    plan = plan_self_attention(queries, keys, clip.network.video)
    return pass_flops(clip.network.config, plan, clip.cond.shape[1]).total
