"""Compare the kernels of a block's pointwise parts with the plain versions in float64; run with TRITON_INTERPRET=1."""

from __future__ import annotations

import random
import sys
from collections.abc import Callable, Sequence
from typing import Any
from unittest import mock

import torch
from torch import Tensor

from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.pointwise import functions as pointwise
from helix4d.model.networks.pointwise.functions import TokenFrames
from tests.triton_bfloat16 import patch_bfloat16
from tests.triton_interpreter import patch_scalars

CASES = 3
# Largest error allowed relative to the largest magnitude: float32 sums, and one rounding to each 16-bit dtype.
BOUNDS = {torch.float32: 1e-5, torch.float16: 2**-11 + 1e-5, torch.bfloat16: 2**-8 + 1e-5}


def kernels_serve(answer: bool) -> Any:
    """Replace the choice by device."""

    def served(_: Tensor) -> bool:  # a plain function, because Dynamo traces it
        return answer

    return mock.patch.object(pointwise, "served_by_kernels", served)


def compare(function: Callable[..., Tensor], inputs: Sequence[Tensor], up: Tensor, dtype: torch.dtype) -> None:
    """The result and all gradients of a function, from the kernels and from the plain version in float64."""
    results = []
    for wide in (False, True):
        leaves = [x.double() if wide else x.clone() for x in inputs]
        leaves = [x.requires_grad_() for x in leaves]
        with kernels_serve(not wide):
            out = function(*leaves)
        results.append([out.detach(), *torch.autograd.grad(out, leaves, up.to(out.dtype))])
    for place, (found, expected) in enumerate(zip(*results, strict=True)):
        assert found.dtype == (dtype if place == 0 else inputs[place - 1].dtype)
        error = float((found.double() - expected).abs().max() / expected.abs().max().clamp(min=1e-30))
        assert error <= BOUNDS[found.dtype], f"{function}, {dtype}, result {place}: error {error:.2e}"


def check(case: int, dtype: torch.dtype) -> None:
    """One random layout, width and number of heads in all three functions."""
    draw, generator = random.Random(case), torch.Generator().manual_seed(case)
    layout = FrameLayout(tuple(tuple(draw.choice([0, 1, 5, 16, 17]) for _ in range(2)) for _ in range(2)))
    frames = TokenFrames.from_layout(layout, torch.device("cpu"))
    heads, size = ((2, 8), (3, 24), (1, 320))[case % 3]
    tokens, width = layout.tokens, heads * size
    if tokens == 0:
        return

    def rand(*shape: int, kind: torch.dtype = dtype) -> Tensor:
        return torch.randn(shape, generator=generator).to(kind)

    x, h, up = (rand(tokens, width) for _ in range(3))
    modulation = rand(layout.frames, 6 * width, kind=torch.float32)

    def chunks(y: Tensor) -> tuple[Tensor, ...]:
        return y.chunk(6, dim=1)

    def modulated(x: Tensor, y: Tensor) -> Tensor:
        return pointwise.modulated_norm(x, chunks(y)[1], chunks(y)[0], frames, 1e-6)

    def affine(x: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        return pointwise.affine_norm(x, weight, bias, frames, 1e-6)

    def residual(x: Tensor, h: Tensor, y: Tensor) -> Tensor:
        return pointwise.gated_residual(x, h, chunks(y)[2], frames)

    compare(modulated, (3 + x, modulation), up, dtype)
    compare(affine, (x, rand(width, kind=torch.float32), rand(width)), up, dtype)
    compare(residual, (x, h, modulation), up, dtype)

    angles = 20 * rand(tokens, size // 2, kind=torch.float32)
    gamma = rand(heads, size, kind=torch.float32)
    for rotary in (None, (angles.cos(), angles.sin())):

        def query(qkv: Tensor, gamma: Tensor, rotary: Any = rotary) -> Tensor:
            return pointwise.rms_norm_rotary(qkv.unflatten(1, (3, heads, size))[:, 1], gamma, rotary)

        compare(query, (rand(tokens, 3 * width), gamma), rand(tokens, heads, size), dtype)


def check_frozen() -> None:
    """Without trained parameters only the tokens have gradients; the same bits twice."""
    frames = TokenFrames.from_layout(FrameLayout(((20, 3),)), torch.device("cpu"))
    x, h = torch.randn(23, 8, requires_grad=True), torch.randn(23, 8, requires_grad=True)
    table = torch.randn(2, 8)
    out = pointwise.gated_residual(pointwise.modulated_norm(x, table, table, frames, 1e-6), h, table, frames)
    first, second = (torch.autograd.grad(out.square().sum(), (x, h), retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(first, second, strict=True))


def check_empty() -> None:
    """No tokens: empty results."""
    frames = TokenFrames.from_layout(FrameLayout(((0, 0),)), torch.device("cpu"))
    x, table = torch.zeros(0, 8, requires_grad=True), torch.ones(2, 8, requires_grad=True)
    out = pointwise.gated_residual(pointwise.modulated_norm(x, table, table, frames, 1e-6), x, table, frames)
    out = pointwise.rms_norm_rotary(out.unflatten(1, (2, 4)), torch.ones(2, 4, requires_grad=True))
    gradients = torch.autograd.grad(out.sum(), (x, table))
    assert gradients[0].shape == (0, 8)
    assert not gradients[1].any()


def check_compiled() -> None:
    """A block traced by Dynamo, with its parameters trained, gives what it gives in eager mode."""
    from helix4d.model.networks.config import FlowConfig, VideoConfig
    from helix4d.model.networks.flow import Checkpointing, SparseFlow
    from helix4d.model.networks.sparse import SparseLayout, SparseTensor

    config = FlowConfig(
        resolution=8, in_channels=4, out_channels=4, model_channels=16, cond_channels=8, num_blocks=1, num_heads=2
    )
    generator = torch.Generator().manual_seed(0)
    lengths = (19, 0, 7)
    coords = torch.cat([torch.full((n, 1), f) for f, n in enumerate(lengths)]).int()
    coords = torch.cat([coords, torch.randint(0, 8, (26, 3), generator=generator).int()], dim=1)
    layout = SparseLayout(coords, 3)
    feats, cond = torch.randn(26, 4, generator=generator), torch.randn(3, 5, 8, generator=generator)
    results = []
    for mode in ("plain", "kernels", "compiled"):
        network = SparseFlow(config, VideoConfig())
        weights = torch.Generator().manual_seed(1)
        for parameter in network.parameters():
            parameter.data.normal_(0, 0.3, generator=weights)
        network.checkpointing = Checkpointing.KEEP_ATTENTION
        if mode == "compiled":
            network.compile_blocks(backend="aot_eager")
        with kernels_serve(mode != "plain"):
            out = network(SparseTensor(feats, layout), torch.tensor([0.0, 600.0, 600.0]), cond, clips=(3,)).feats
            out.square().sum().backward()
        results.append([out.detach(), *(p.grad for p in network.parameters())])
    for others in results[1:]:
        for found, expected in zip(others, results[0], strict=True):
            torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


if __name__ == "__main__":
    patch_scalars()
    patch_bfloat16()
    for number in range(CASES):
        check(number, torch.bfloat16)
    check(CASES, torch.float32)
    check(CASES + 1, torch.float16)
    with kernels_serve(True):
        check_frozen()
        check_empty()
    check_compiled()
    sys.stdout.write("equal\n")
