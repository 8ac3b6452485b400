"""A training step of the full-size geometry stage: MFU, peak memory, and the slowest kernels."""

from __future__ import annotations

import math
from collections.abc import Iterator

import torch
from torch.profiler import ProfilerActivity, profile

from benchmarks.kit.context import Context, skipped
from benchmarks.kit.results import Row, Verdict
from benchmarks.training_step import FULL, TINY, build_stage, random_batch, train_step
from helix4d.model.networks.attention import choice as attention_choice
from helix4d.model.networks.attention.plan import AttentionBackend
from helix4d.model.networks.flow import Checkpointing, SparseFlow
from helix4d.model.networks.frames import FrameLayout
from helix4d.train.flops import peak_flops, step_flops

FRAMES, TOKENS = 16, 8192
LEAST_MFU = 0.45
TOP = 15
_COMPILE_S = 45.0
"""Seconds needed to compile the blocks and run three steps; with less time left, this is skipped."""


def measure(context: Context) -> Iterator[Row]:
    """Time the step, profile one, and time it once more with compiled blocks."""
    device, config = context.torch_device(), context.pick(FULL, TINY)
    frames, tokens = context.pick(FRAMES, 4), context.pick(TOKENS, 16)
    network = build_stage(config, device, AttentionBackend.AUTO, Checkpointing.KEEP_ATTENTION, compiled=False)
    trained = [parameter for _, parameter in network.self_attention_parameters()]
    optimizer = torch.optim.AdamW(trained, lr=2e-5, betas=(0.9, 0.95), fused=context.on_gpu)
    clean, cond = random_batch(config, frames, tokens, device)
    layout = FrameLayout((clean.layout.lengths,))
    flops = step_flops(config, network.video, layout.lengths, cond.shape[1], all_trained=False)

    def step() -> float:
        return train_step(network, optimizer, clean, cond, layout, 0)

    def timed(what: str) -> Row:
        seconds = context.seconds(step, most=3)
        return _row(context, f"{frames} x {tokens} tokens, {what}", seconds, flops, layout.tokens, device)

    yield timed("eager")
    yield _finite(step(), trained)
    yield _chosen(network, layout, device)
    yield Row(f"the {TOP} slowest kernels of a step: below", details=tuple(_slowest(step, context)))
    if not context.on_gpu:
        yield skipped("compiled blocks", "compilation for a CPU takes minutes")
    elif context.left_s < _COMPILE_S:
        yield skipped("compiled blocks", f"{context.left_s:.0f} s are left, compilation takes about {_COMPILE_S:.0f} s")
    else:
        network.compile_blocks()
        torch.cuda.reset_peak_memory_stats()
        yield timed("compiled blocks")


def _finite(loss: float, trained: list[torch.nn.Parameter]) -> Row:
    norm = float(torch.nn.utils.get_total_norm(p.grad for p in trained if p.grad is not None))
    right = math.isfinite(loss) and math.isfinite(norm) and norm > 0
    verdict = Verdict.RIGHT if right else Verdict.WRONG
    return Row(f"loss {loss:.4f}, norm of the gradient {norm:.2e}", verdict, "finite, and not zero")


def _chosen(network: SparseFlow, layout: FrameLayout, device: torch.device) -> Row:
    """Name the attention that the network chose, with the times that it chose by."""
    config = network.config
    work = attention_choice.Workload(
        device, network.compute_dtype, config.num_heads, config.head_channels, network.video
    )
    own, cross = attention_choice.resolve(AttentionBackend.AUTO, work, layout, training=True)
    timings = attention_choice.measured(work)
    details = () if timings is None else tuple(attention_choice.describe(work, timings).split("; "))
    return Row(f"attention that `auto` chose: {own}, and {cross} for cross-attention", details=details)


def _row(context: Context, what: str, seconds: float, flops: float, tokens: int, device: torch.device) -> Row:
    rate, peak = flops / seconds, peak_flops(device)
    figure = f"{what}: {seconds:.3f} s, {tokens / seconds:,.0f} tokens/s, {rate / 1e12:.3g} model TFLOP/s"
    values = {"seconds": seconds, "flops": flops}
    if context.on_gpu:
        memory = torch.cuda.max_memory_allocated()
        values["peak_bytes"] = memory
        figure += f", peak {memory / 2**30:.1f} GiB"
    if peak is None:
        return Row(figure, share=context.of_matmul(rate), values=values)
    values["mfu"] = rate / peak
    figure += f", MFU {rate / peak:.1%} of the datasheet's rate"
    target = f"MFU at least {LEAST_MFU:.0%}"
    return Row(figure, context.judge(rate / peak >= LEAST_MFU), target, context.of_matmul(rate), values)


def _slowest(step: object, context: Context) -> Iterator[str]:
    activity = ProfilerActivity.CUDA if context.on_gpu else ProfilerActivity.CPU
    with profile(activities=[activity]) as profiler:
        step()  # type: ignore[operator]
        if context.on_gpu:
            torch.cuda.synchronize()
    spent = [
        ((event.self_device_time_total if context.on_gpu else event.self_cpu_time_total) / 1000, event.count, event.key)
        for event in profiler.key_averages()
    ]
    total = sum(milliseconds for milliseconds, _, _ in spent)
    yield f"{'share':>6} {'ms':>9} {'calls':>6}  kernel ({total:.0f} ms in all)"
    for milliseconds, count, name in sorted(spent, reverse=True)[:TOP]:
        yield f"{milliseconds / total:6.1%} {milliseconds:9.2f} {count:6d}  {name[:100]}"
