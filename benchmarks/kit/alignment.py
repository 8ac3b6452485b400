"""ActionBench's exact alignment on the GPU: nearest points against a k-d tree, and hours for 128 x 16 frames."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.kit.context import Context, agreed
from benchmarks.kit.results import Row
from benchmarks.kit.triton_on_cpu import prepare
from helix4d.evaluation.geometry.alignment import EXACT, AlignmentSettings, align
from helix4d.evaluation.geometry.nearest import Neighbors, nearest_in_registers

ITEMS, FRAMES, POINTS, STARTS = 128, 16, 10_000, 24
MOST_HOURS = 0.5


def measure(context: Context) -> Iterator[Row]:
    """Compare the kernel with the CPU's tree and time it, then time ten steps of Adam from all starts."""
    device = context.torch_device()
    prepare(context)
    points, starts, steps = context.pick(POINTS, 60), context.pick(STARTS, 2), context.pick(10, 2)
    target, moving = _cloud(points, 0), 1.1 * _cloud(points, 1) + 0.05
    on_device = moving.to(device), target.to(device)
    clouds = on_device[1].repeat(starts, 1, 1)
    found, _ = nearest_in_registers(on_device[0][None], clouds)
    expected, _ = Neighbors(target).query(moving)
    error = float((found.cpu() - expected).abs().max() / expected.max())
    yield agreed(f"distances to the nearest of {points} points, compared with a k-d tree", error, 1e-5)
    pairs = starts * points**2
    search_s = context.seconds(lambda: nearest_in_registers(on_device[0][None], clouds))
    yield Row(
        f"nearest points, {starts} clouds, {points} queries each: {1e3 * search_s:.2f} ms, "
        f"{pairs / search_s / 1e9:.4g} billion pairs/s",
        values={"search_s": search_s, "pairs": pairs},
    )

    settings = AlignmentSettings(steps=steps)
    seconds = context.seconds(lambda: align(*on_device, settings), most=3)
    each_s = seconds / steps * EXACT.steps
    hours = each_s * ITEMS * FRAMES / 3600
    yield Row(
        f"exact alignment, {points} points: {1e3 * seconds / steps:.2f} ms per step, {each_s:.2f} s per frame, "
        f"{hours:.2f} hours for {ITEMS} x {FRAMES} frames, extrapolated",
        context.judge(hours <= MOST_HOURS),
        f"at most {MOST_HOURS} hours",
        values={"step_s": seconds / steps, "hours": hours},
    )


def _cloud(count: int, seed: int) -> Tensor:
    """float32 [count, 3]: points on a bumpy ellipsoid."""
    normal = torch.randn(count, 3, generator=torch.Generator().manual_seed(seed))
    direction = normal / normal.norm(dim=1, keepdim=True)
    return direction * torch.tensor([0.5, 0.35, 0.25]) * (1 + 0.1 * torch.sin(7 * direction[:, [1, 2, 0]]))
