"""The parts of a block between its matrix products: each kernel's error in float64, and its bandwidth."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

import torch
from torch import Tensor

from benchmarks.kit.context import Context, agreed, largest, relative_error, skipped
from benchmarks.kit.results import Row
from benchmarks.kit.triton_on_cpu import prepare
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.pointwise import functions as pointwise
from helix4d.model.networks.pointwise.functions import TokenFrames

FRAMES, TOKENS, HEADS, CHANNELS = 16, 8192, 12, 128
RAGGED = ((300, 0, 17, 421), (1, 90))
TOLERANCE = {torch.bfloat16: 4e-3, torch.float32: 1e-6}
"""Bounds of ‖a − b‖ / ‖b‖: twice the rounding of the results for bfloat16."""


@dataclass(frozen=True)
class Part:
    """One function of a block.

    Attributes:
        name: what it computes.
        run: the function of `inputs`.
        inputs: tensors that have gradients.
        moved: bytes that the kernel must read and write forward, each tensor once.
    """

    name: str
    run: Callable[..., Tensor]
    inputs: tuple[Tensor, ...]
    moved: int


def measure(context: Context) -> Iterator[Row]:
    """Compare on ragged frames, then time at full size, kernels and plain torch."""
    device = context.torch_device()
    prepare(context)
    dtype = torch.bfloat16 if context.on_gpu else torch.float32
    heads, channels = context.pick((HEADS, CHANNELS), (2, 8))
    for part in _parts(FrameLayout(context.pick(RAGGED, ((5, 0, 3),))), heads, channels, dtype, device):
        error = largest(_errors(part))
        yield agreed(f"{part.name}, ragged, output and gradients, {dtype}", error, TOLERANCE[dtype])
    if not context.on_gpu:
        yield skipped("bandwidth", "timings in the interpreter are meaningless")
        return
    layout = FrameLayout((context.pick((TOKENS,) * FRAMES, (64,)),))
    for part in _parts(layout, heads, channels, dtype, device):
        yield _timed(context, part)


def _parts(
    layout: FrameLayout, heads: int, channels: int, dtype: torch.dtype, device: torch.device
) -> tuple[Part, ...]:
    frames = TokenFrames.from_layout(layout, device)
    generator = torch.Generator(device).manual_seed(0)
    width, tokens, size = heads * channels, layout.tokens, dtype.itemsize

    def normal(*shape: int) -> Tensor:
        return torch.randn(shape, generator=generator, device=device)

    x, h = normal(tokens, width).to(dtype), normal(tokens, width).to(dtype)
    scale, shift, gate = (normal(layout.frames, width) for _ in range(3))
    qkv, gamma = normal(tokens, 3 * width).to(dtype), normal(heads, channels)
    angles = 20 * normal(tokens, channels // 2)
    rotary = angles.cos(), angles.sin()
    whole = tokens * width * size
    return (
        Part(
            "modulated normalization",
            lambda x, scale, shift: pointwise.modulated_norm(x, scale, shift, frames, 1e-6),
            (x, scale, shift),
            2 * whole,
        ),
        Part(
            "normalization and rotary embedding of queries",
            lambda qkv, gamma: pointwise.rms_norm_rotary(qkv.unflatten(1, (3, heads, channels))[:, 0], gamma, rotary),
            (qkv, gamma),
            2 * whole + 2 * 4 * angles.numel(),
        ),
        Part(
            "gated residual",
            lambda x, h, gate: pointwise.gated_residual(x, h, gate, frames),
            (x, h, gate),
            3 * whole,
        ),
    )


def _errors(part: Part) -> list[float]:
    """Errors of the result and of all gradients; float64 always takes the plain version."""
    results = []
    for exact in (False, True):
        leaves = [(x.double() if exact else x.clone()).requires_grad_() for x in part.inputs]
        with mock.patch.object(pointwise, "served_by_kernels", lambda x: x.dtype is not torch.float64):
            out = part.run(*leaves)
        up = torch.linspace(-1, 1, out.numel(), device=out.device).reshape(out.shape).to(part.inputs[0].dtype)
        results.append((out.detach(), *torch.autograd.grad(out, leaves, up.to(out.dtype))))
    return [relative_error(found, expected) for found, expected in zip(*results, strict=True)]


def _timed(context: Context, part: Part) -> Row:
    """Time forward and, for comparison, plain torch."""
    with torch.no_grad():
        seconds = context.seconds(lambda: part.run(*part.inputs))
        with mock.patch.object(pointwise, "served_by_kernels", return_value=False):
            plain_s = context.seconds(lambda: part.run(*part.inputs))
    rate = part.moved / seconds
    return Row(
        f"{part.name}, {len(part.inputs[0])} tokens, forward: {1e3 * seconds:.2f} ms, {rate / 1e12:.3g} TB/s; "
        f"plain torch {1e3 * plain_s:.2f} ms",
        share=context.of_copy(rate),
        values={"seconds": seconds, "plain_s": plain_s, "bytes": part.moved},
    )
