"""Submanifold 3 x 3 x 3 convolution: gathers and matrix products in plain torch on any device, or Triton on CUDA.

out[i] = b + Σ_o W[:, o] · x[j], over the offsets o at which a voxel j exists: a cross-correlation on the active voxels.
Offsets are gathered one at a time and not kept for the backward pass, so the extra memory is that of one offset, not
of 27.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.autograd.function import once_differentiable

from helix4d.model.networks.convolution.implicit_gemm import TYPES, implicit_gemm_conv, triton_available
from helix4d.model.networks.sparse import CENTER, KERNEL, SparseLayout, SparseTensor


class SubmanifoldConv3d(nn.Module):
    """A submanifold convolution with TRELLIS.2's parameter layout: weight [out, 3, 3, 3, in], bias [out]."""

    def __init__(self, in_channels: int, out_channels: int) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(out_channels, 3, 3, 3, in_channels))
        self.bias = nn.Parameter(torch.zeros(out_channels))

    def forward(self, x: SparseTensor) -> SparseTensor:
        """Map [N, in] to [N, out] on the same voxels, in the type of x."""
        weight = self.weight.flatten(1, 3).to(x.feats.dtype)
        return x.replace(submanifold_conv(x.feats, weight, self.bias.to(x.feats.dtype), x.layout))


def submanifold_conv(feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
    """Convolve features [N, in] with weight [out, 27, in] and bias [out]: [N, out].

    On CUDA, float16, bfloat16 and float32 run in Triton where it is installed; all else in plain torch.
    """
    if feats.is_cuda and feats.dtype in TYPES and triton_available():
        return implicit_gemm_conv(feats, weight, bias, layout)
    return gather_conv(feats, weight, bias, layout)


def gather_conv(feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
    """`submanifold_conv` in plain torch, for any device and floating-point type."""
    out: Tensor = _GatherConv.apply(feats, weight, bias, layout)
    return out


class _GatherConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.layout = layout
        out = _accumulator(torch.addmm(bias, feats, weight[:, CENTER].t()))
        for offset, pair in enumerate(layout.pairs):
            mirror = KERNEL - 1 - offset
            out.index_add_(0, pair.target, (feats[pair.source] @ weight[:, offset].t()).to(out.dtype))
            out.index_add_(0, pair.source, (feats[pair.target] @ weight[:, mirror].t()).to(out.dtype))
        return out.to(feats.dtype)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        feats, weight = ctx.saved_tensors
        wants_feats, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        grad = grad.contiguous()
        grad_feats = _accumulator(grad @ weight[:, CENTER]) if wants_feats else None
        grad_weight = torch.empty_like(weight) if wants_weight else None
        if grad_weight is not None:
            grad_weight[:, CENTER] = grad.t() @ feats
        for offset, pair in enumerate(ctx.layout.pairs):
            for place, target, source in (
                (offset, pair.target, pair.source),
                (KERNEL - 1 - offset, pair.source, pair.target),
            ):
                grad_target = grad[target]
                if grad_feats is not None:
                    grad_feats.index_add_(0, source, (grad_target @ weight[:, place]).to(grad_feats.dtype))
                if grad_weight is not None:
                    grad_weight[:, place] = grad_target.t() @ feats[source]
        grad_bias = grad.sum(0) if wants_bias else None
        return None if grad_feats is None else grad_feats.to(feats.dtype), grad_weight, grad_bias, None


def _accumulator(x: Tensor) -> Tensor:
    """Accumulate 16-bit dtypes in float32: 27 roundings to an 8-bit mantissa would be noticeable."""
    return x.float() if x.dtype in (torch.float16, torch.bfloat16) else x
