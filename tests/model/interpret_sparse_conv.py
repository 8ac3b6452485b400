"""Compare the convolution kernels with gathers in float64; run with TRITON_INTERPRET=1."""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.model.networks.convolution import implicit_gemm
from helix4d.model.networks.convolution.implicit_gemm import implicit_gemm_conv
from helix4d.model.networks.convolution.sparse_conv import gather_conv
from helix4d.model.networks.sparse import KERNEL, SparseLayout
from tests.triton_bfloat16 import patch_bfloat16
from tests.triton_interpreter import patch_scalars

BOUNDS = {torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 4e-3}
"""Largest error as a share of the largest value: sums are in float32, the result is rounded to its type."""


def layout_of(generator: torch.Generator, side: int, share: float) -> SparseLayout:
    """Two samples of random voxels."""
    occupied = torch.rand(2, side, side, side, generator=generator) < share
    occupied[0, 0, 0, 0] = True
    return SparseLayout(occupied.nonzero().to(torch.int32), 2)


def inputs(layout: SparseLayout, inner: int, outer: int, generator: torch.Generator) -> list[Tensor]:
    """Features, weight and bias, and a gradient of the result."""
    shapes = (len(layout), inner), (outer, 27, inner), (outer,), (len(layout), outer)
    return [torch.randn(shape, generator=generator) for shape in shapes]


def check(layout: SparseLayout, inner: int, outer: int, dtype: torch.dtype, generator: torch.Generator) -> None:
    """The result and all gradients."""
    tensors = [tensor.to(dtype) for tensor in inputs(layout, inner, outer, generator)]
    exact = [tensor.double().requires_grad_() for tensor in tensors[:3]]
    expected = gather_conv(*exact, layout)
    wanted = (expected.detach(), *torch.autograd.grad(expected, exact, tensors[3].double()))
    for ours, truth in zip(_run(tensors, layout), wanted, strict=True):
        assert ours.dtype == dtype
        error = float((ours.double() - truth).abs().max() / truth.abs().max())
        assert error < BOUNDS[dtype], (inner, outer, dtype, error)


def _run(tensors: list[Tensor], layout: SparseLayout) -> tuple[Tensor, ...]:
    leaves = [tensor.detach().requires_grad_() for tensor in tensors[:3]]
    out = implicit_gemm_conv(*leaves, layout)
    return out.detach(), *torch.autograd.grad(out, leaves, tensors[3])


def check_rows_do_not_depend_on_the_batch(generator: torch.Generator) -> None:
    """A sample gives the same bits alone and in a batch."""
    both = layout_of(generator, 5, 0.6)
    alone = SparseLayout(both.coords[: both.lengths[0]], 1)
    feats, weight, bias, _ = inputs(both, 40, 24, generator)
    together = implicit_gemm_conv(feats, weight, bias, both)
    assert torch.equal(implicit_gemm_conv(feats[: len(alone)], weight, bias, alone), together[: len(alone)])


if __name__ == "__main__":
    patch_scalars()
    patch_bfloat16()
    implicit_gemm._TARGET_PROGRAMS = 2 * KERNEL  # two shares of the pairs of an offset
    seeded = torch.Generator().manual_seed(0)
    for kind in (torch.float16, torch.bfloat16, torch.float32):
        check(layout_of(seeded, 5, 0.4), 40, 24, kind, seeded)
    check(layout_of(seeded, 5, 0.05), 64, 72, torch.float16, seeded)
    check_rows_do_not_depend_on_the_batch(seeded)
