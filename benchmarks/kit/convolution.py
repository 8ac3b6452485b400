"""The submanifold convolution in Triton: compared with gathers in float64, and its speed at each decoder level."""

from __future__ import annotations

from collections.abc import Iterator

import torch
from torch import Tensor

from benchmarks.kit.context import Context, agreed, largest, relative_error, skipped
from benchmarks.kit.results import Row
from benchmarks.kit.triton_on_cpu import prepare
from benchmarks.sparse_conv import LEVELS, inputs, shell
from helix4d.model.networks.convolution.implicit_gemm import implicit_gemm_conv
from helix4d.model.networks.convolution.sparse_conv import gather_conv, submanifold_conv
from helix4d.model.networks.sparse import SparseLayout

WIDTHS = ((40, 24), (64, 64), (1024, 1024))
TOLERANCES = {torch.float16: 1e-3, torch.bfloat16: 8e-3, torch.float32: 2e-6}
"""Bounds of ‖a − b‖ / ‖b‖: a few times the rounding of the results alone."""


def compare(context: Context) -> Iterator[Row]:
    """Outputs and all gradients, on the voxels of a sphere."""
    device = context.torch_device()
    prepare(context)
    layout = SparseLayout(shell(context.pick(24, 6), 0.4, device), 1)
    for inner, outer in context.pick(WIDTHS, WIDTHS[:1]):
        for dtype, tolerance in TOLERANCES.items():
            if dtype is torch.bfloat16 and not context.on_gpu:
                yield skipped(f"{inner} to {outer} channels, {dtype}", "not supported by the interpreter")
                continue
            errors = _errors(layout, inner, outer, dtype)
            what = f"{inner} to {outer} channels, {len(layout)} voxels, {dtype}"
            yield agreed(f"{what}, output and gradients", largest(errors), tolerance)


def _errors(layout: SparseLayout, inner: int, outer: int, dtype: torch.dtype) -> list[float]:
    device = layout.coords.device
    generator = torch.Generator(device).manual_seed(inner)

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    # At this scale a sum over neighbors is about one, far from the limits of float16.
    scale = (8 * inner) ** -0.5
    half = [x.to(dtype) for x in (normal(len(layout), inner), scale * normal(outer, 27, inner), normal(outer))]
    up = normal(len(layout), outer).to(dtype)
    results = []
    for conv, tensors in ((implicit_gemm_conv, half), (gather_conv, [x.double() for x in half])):
        leaves = [x.detach().requires_grad_() for x in tensors]
        out = conv(*leaves, layout)
        results.append((out, *torch.autograd.grad(out, leaves, up.to(out.dtype))))
    return [relative_error(found.detach(), exact.detach()) for found, exact in zip(*results, strict=True)]


def measure(context: Context) -> Iterator[Row]:
    """Time each level on a sphere that fills the grid, in the type that the VAEs run in."""
    device = context.torch_device()
    if not context.on_gpu:
        yield skipped("decoder levels in Triton", "timings in the interpreter are meaningless")
    dtype = torch.float16 if context.on_gpu else torch.float32
    for side, channels in context.pick(LEVELS, LEVELS[:1]):
        channels = context.pick(channels, 64)
        layout = SparseLayout(shell(side, context.pick(0.45, 0.2), device), 1)
        tables_s = context.seconds(lambda coords=layout.coords: _tables(coords), most=5)  # type: ignore[misc]
        feats, weight, bias = inputs(layout, channels, dtype)
        up = torch.randn_like(feats)

        def forward(feats: Tensor = feats, weight: Tensor = weight, bias: Tensor = bias, layout=layout) -> Tensor:
            return submanifold_conv(feats, weight, bias, layout)

        def both(forward=forward, leaves=(feats, weight, bias), up: Tensor = up) -> None:
            torch.autograd.grad(forward(), leaves, up)

        with torch.no_grad():
            forward_s = context.seconds(forward)
        both_s = context.seconds(both)
        pairs = len(layout) + 2 * sum(len(pair.target) for pair in layout.pairs)
        flops = 2.0 * pairs * channels**2
        yield Row(
            f"{side}³, {channels} channels, {len(layout)} voxels: forward {1e3 * forward_s:.2f} ms "
            f"({flops / forward_s / 1e12:.3g} TFLOP/s), with backward {1e3 * both_s:.2f} ms "
            f"({3 * flops / both_s / 1e12:.3g} TFLOP/s), neighbor tables {1e3 * tables_s:.1f} ms",
            share=context.of_matmul(flops / forward_s),
            values={"forward_s": forward_s, "both_s": both_s, "tables_s": tables_s, "flops": flops},
        )


def _tables(coords: Tensor) -> tuple[object, object]:
    """Build the index tables of the kernels, which a layout caches."""
    layout = SparseLayout(coords, 1)
    return layout.gather_tiles, layout.offset_pairs
