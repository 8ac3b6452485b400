"""Self-attention across frames: each pattern and backend against a dense reference, then its speed and the targets.

Each backend is a separate check, so a failure does not affect the others. The longest frames come first: if time runs
out, the least important sizes are missing.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from benchmarks.attention import CHANNELS, HEADS, LEAST_FULL, MOST_WINDOW_ANCHOR, product_flops
from benchmarks.kit.context import Context, agreed, largest, relative_error, skipped
from benchmarks.kit.results import Row
from benchmarks.kit.triton_on_cpu import prepare
from helix4d.model.networks.attention.plan import AttentionBackend, plan_self_attention
from helix4d.model.networks.config import AttentionPattern, VideoConfig
from helix4d.model.networks.frames import FrameLayout, dense_mask

WINDOW_ANCHOR = AttentionPattern.WINDOW_ANCHOR
PATTERNS = (WINDOW_ANCHOR, AttentionPattern.FULL, AttentionPattern.CAUSAL, AttentionPattern.WINDOW)
TOKENS, FRAMES = (8192, 4096, 1024), 16
LEAST_RATE = 0.6
"""Target at 8192 tokens: forward, as a share of the matrix rate."""
RAGGED = ((300, 170, 0, 421, 64, 33), (90, 250))
TOLERANCE = {torch.bfloat16: 1e-2, torch.float32: 1e-5}
"""Bounds of ‖a − b‖ / ‖b‖ against float64; bfloat16 rounds the results and the weights of attention to 8 bits."""
_FEWEST_S = 6.0
"""Seconds of the slowest case: with less time left, the rest is skipped by name instead of being killed."""


@dataclass(frozen=True)
class Times:
    """Seconds of a case, and its operations forward; with the backward pass there are 3.5 times as many."""

    forward_s: float
    both_s: float
    flops: float


def window(context: Context) -> Iterator[Row]:
    """Check and time this project's Triton kernels."""
    yield from _measure(context, AttentionBackend.WINDOW, times=context.on_gpu)
    if not context.on_gpu:
        yield skipped("speed", "timings in the interpreter are meaningless")


def varlen(context: Context) -> Iterator[Row]:
    """Check and time variable-length flash attention."""
    yield from _measure(context, AttentionBackend.VARLEN)


def per_frame(context: Context) -> Iterator[Row]:
    """Check and time one call per group of frames."""
    yield from _measure(context, AttentionBackend.PER_FRAME)


def _measure(context: Context, backend: AttentionBackend, times: bool = True) -> Iterator[Row]:
    prepare(context)
    yield exact(context, backend)
    if not times:
        return
    for tokens in context.pick(TOKENS, (16,)):
        yield from timed(context, backend, FrameLayout(((tokens,) * FRAMES,)), f"{tokens} tokens", PATTERNS)
    longest = context.pick(TOKENS[0], 16)
    lengths = tuple(longest // 2 + (2741 * frame) % (longest // 2) for frame in range(FRAMES))
    yield from timed(
        context, backend, FrameLayout((lengths,)), f"ragged, {sum(lengths)} tokens in all", (WINDOW_ANCHOR,)
    )


def exact(
    context: Context, backend: AttentionBackend, patterns: Sequence[AttentionPattern] = tuple(AttentionPattern)
) -> Row:
    """Compare output and gradients with dense masked attention in float64, on ragged frames."""
    device = context.torch_device()
    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    lengths = context.pick(RAGGED, ((3, 0, 5, 2), (4,)))
    layout, heads, channels = FrameLayout(lengths), context.pick(2, 1), context.pick(128, 16)
    generator = torch.Generator(device).manual_seed(0)
    shape = (layout.tokens, heads, channels)
    half = [torch.randn(shape, generator=generator, device=device).to(dtype) for _ in range(4)]
    errors = []
    for pattern in patterns:
        video = VideoConfig(pattern=pattern)
        leaves = [x.clone().requires_grad_() for x in half[:3]]
        exact_leaves = [x.double().requires_grad_() for x in half[:3]]
        found = plan_self_attention(layout, layout, video, backend).attend(*leaves)
        expected = _dense(*exact_leaves, dense_mask(layout, layout, video).to(device))
        gradients = torch.autograd.grad(found, leaves, half[3])
        exact_gradients = torch.autograd.grad(expected, exact_leaves, half[3].double())
        errors.append(relative_error(found.detach(), expected.detach()))
        errors += [relative_error(a, b) for a, b in zip(gradients, exact_gradients, strict=True)]
    what = f"{backend}, {len(patterns)} patterns, ragged, output and gradients, {dtype}"
    return agreed(what, largest(errors), TOLERANCE[dtype])


def timed(
    context: Context, backend: AttentionBackend, layout: FrameLayout, what: str, patterns: tuple[AttentionPattern, ...]
) -> Iterator[Row]:
    """Yield a row per pattern, and one that judges the ratios if they are all there."""
    times: dict[AttentionPattern, Times] = {}
    for pattern in patterns:
        if context.left_s < _FEWEST_S:
            yield skipped(f"{backend}, {what}, {pattern}", "no time left")
            continue
        times[pattern] = _time(context, backend, layout, VideoConfig(pattern=pattern))
        judged = pattern is WINDOW_ANCHOR and layout.tokens == TOKENS[0] * FRAMES
        yield _row(context, f"{backend}, {what}, {pattern}", times[pattern], judged)
    if len(times) == len(PATTERNS):
        yield _ratios(context, f"{backend}, {what}", times, layout.tokens == TOKENS[0] * FRAMES)


def _row(context: Context, what: str, times: Times, judged: bool) -> Row:
    forward, both = times.flops / times.forward_s, 3.5 * times.flops / times.both_s
    share = context.of_matmul(forward)
    figure = f"{what}: forward {1e3 * times.forward_s:.2f} ms ({forward / 1e12:.3g} TFLOP/s), "
    figure += f"with backward {1e3 * times.both_s:.2f} ms ({both / 1e12:.3g} TFLOP/s)"
    values = {"forward_s": times.forward_s, "both_s": times.both_s, "forward_flops": times.flops}
    if not judged or share is None:
        return Row(figure, share=share, values=values)
    return Row(figure, context.judge(share >= LEAST_RATE), f"forward at least {LEAST_RATE:.0%}", share, values)


def _ratios(context: Context, what: str, times: Mapping[AttentionPattern, Times], judged: bool) -> Row:
    ours = times[WINDOW_ANCHOR].both_s
    full, window = times[AttentionPattern.FULL].both_s / ours, ours / times[AttentionPattern.WINDOW].both_s
    causal = times[AttentionPattern.CAUSAL].both_s / ours
    figure = f"{what}, with backward: full / ours {full:.2f}, causal / ours {causal:.2f}, ours / window {window:.2f}"
    values = {"full_over_ours": full, "causal_over_ours": causal, "ours_over_window": window}
    if not judged:
        return Row(figure, values=values)
    target = f"at least {LEAST_FULL}, –, at most {MOST_WINDOW_ANCHOR}"
    return Row(figure, context.judge(full >= LEAST_FULL and window <= MOST_WINDOW_ANCHOR), target, values=values)


def _time(context: Context, backend: AttentionBackend, layout: FrameLayout, video: VideoConfig) -> Times:
    device = context.torch_device()
    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    plan = plan_self_attention(layout, layout, video, backend)
    generator = torch.Generator(device).manual_seed(0)
    shape = (layout.tokens, HEADS, CHANNELS)
    q, k, v, up = (torch.randn(shape, generator=generator, device=device, dtype=dtype) for _ in range(4))
    leaves = [x.requires_grad_() for x in (q, k, v)]
    # Gradients stay enabled: FlexAttention would compile again without them.
    forward_s = context.seconds(lambda: plan.attend(*leaves), least=2)
    both_s = context.seconds(lambda: torch.autograd.grad(plan.attend(*leaves), leaves, up), least=2)
    return Times(forward_s, both_s, 2 * product_flops(layout, video))


def _dense(q: Tensor, k: Tensor, v: Tensor, mask: Tensor) -> Tensor:
    """softmax(q kᵀ / √d + mask) v without optimization: [L, H, d]."""
    logits = torch.einsum("lhd,shd->hls", q, k) / q.shape[-1] ** 0.5
    return torch.einsum("hls,shd->lhd", logits.masked_fill(~mask, float("-inf")).softmax(-1), v)
