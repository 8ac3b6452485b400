"""Submanifold convolution on a GPU in Triton: rows are gathered inside the matrix product (`sparse_conv_kernels.py`).

float16 and bfloat16 are multiplied as they are and summed in float32. float32 is multiplied as three products of TF32:
its error is 6e-7 of the largest value against float64, that of float32 arithmetic 3e-7 to 5e-7, that of one product of
TF32 8e-4. Deterministic, gradients too: every sum has a fixed order, and an output row does not depend on the rest of
the batch.
"""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from helix4d.model.networks.gather_tiles import TILE_ROWS
from helix4d.model.networks.sparse import KERNEL, SparseLayout

TYPES = (torch.float16, torch.bfloat16, torch.float32)
_FLOAT32_PRODUCTS = "tf32x3"
_TARGET_PROGRAMS = 1024  # several times the number of multiprocessors of any GPU


@dataclass(frozen=True)
class ConvTiling:
    """Channels of a tile, and the warps and pipeline stages of a program.

    Rows come through two dependent loads, first the index and then the row, so that five stages keep two steps of rows
    in flight.
    """

    inner: int
    columns: int
    warps: int
    stages: int = 5


@cache
def triton_available() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def forward_tiling(dtype: torch.dtype, inner: int, columns: int) -> ConvTiling:
    """Return the tiling of `gather_gemm`: the widest without spilled registers on sm_80 and sm_90."""
    if dtype == torch.float32:
        return ConvTiling(_power(inner, 32), _power(columns, 64), warps=8)
    return ConvTiling(_power(inner, 64), _power(columns, 256), warps=8)


def gradient_tiling(dtype: torch.dtype, inner: int, columns: int) -> ConvTiling:
    """Return the tiling of `weight_gradient`: the widest without spilled registers on sm_80 and sm_90."""
    tiling = ConvTiling(_power(inner, 128), _power(columns, 64 if dtype == torch.float32 else 128), warps=8)
    return ConvTiling(tiling.inner, tiling.columns, warps=4) if tiling.inner * tiling.columns <= 64 * 64 else tiling


def gradient_pairs(dtype: torch.dtype) -> int:
    """Return the pairs per step of `weight_gradient`."""
    return 32 if dtype == torch.float32 else 64


def implicit_gemm_conv(feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
    """Convolve features [N, in] with weight [out, 27, in] and bias [out], all of one of `TYPES`: [N, out]."""
    out: Tensor = _ImplicitGemmConv.apply(feats, weight, bias, layout)
    return out


class _ImplicitGemmConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
        ctx.save_for_backward(feats, weight)
        ctx.layout = layout
        return _gather_gemm(feats, weight.permute(1, 2, 0), bias, layout, mirrored=False)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        feats, weight = ctx.saved_tensors
        wants_feats, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        return (
            # i reads j at offset o if and only if j reads i at offset 26 − o.
            _gather_gemm(grad, weight.permute(1, 0, 2), None, ctx.layout, mirrored=True) if wants_feats else None,
            _weight_gradient(feats, grad, ctx.layout).to(weight.dtype) if wants_weight else None,
            grad.sum(0) if wants_bias else None,
            None,
        )


def _gather_gemm(x: Tensor, w: Tensor, bias: Tensor | None, layout: SparseLayout, mirrored: bool) -> Tensor:
    """Compute bias + Σ_o x[neighbors[o]] @ w[o], or w[26 − o] if mirrored: [N, O] in the type of x."""
    from helix4d.model.networks.convolution.sparse_conv_kernels import gather_gemm

    x = x.contiguous()
    inner, columns = w.shape[1:]
    y = x.new_empty(len(x), columns)
    if len(x):
        tiles, tiling = layout.gather_tiles, forward_tiling(x.dtype, inner, columns)
        grid = (len(tiles.targets) * -(-columns // tiling.columns),)
        gather_gemm[grid](
            x, w, w if bias is None else bias, y, tiles.first, tiles.offsets, tiles.sources, tiles.targets,
            *w.stride(), inner, columns, mirrored, bias is not None, _FLOAT32_PRODUCTS,
            TILE_ROWS, tiling.inner, tiling.columns, num_warps=tiling.warps, num_stages=tiling.stages,
        )  # fmt: skip
    return y


def _weight_gradient(x: Tensor, grad: Tensor, layout: SparseLayout) -> Tensor:
    """Compute Σ_i grad[i] ⊗ x[neighbors[o, i]]: float32 [O, 27, I]."""
    from helix4d.model.networks.convolution.sparse_conv_kernels import weight_gradient

    x, grad = x.contiguous(), grad.contiguous()
    inner, columns = x.shape[1], grad.shape[1]
    pairs, step = layout.offset_pairs, gradient_pairs(x.dtype)
    tiling = gradient_tiling(x.dtype, inner, columns)
    tiles = -(-inner // tiling.inner) * -(-columns // tiling.columns)
    splits = max(1, min(-(-len(x) // step), _TARGET_PROGRAMS // (KERNEL * tiles)))
    parts = torch.empty(KERNEL, splits, inner, columns, dtype=torch.float32, device=x.device)
    weight_gradient[KERNEL, tiles, splits](
        x, grad, parts, pairs.starts, pairs.reads, pairs.writes, inner, columns, _FLOAT32_PRODUCTS,
        step, tiling.inner, tiling.columns, num_warps=tiling.warps, num_stages=tiling.stages,
    )  # fmt: skip
    return parts.sum(1).permute(2, 0, 1)


def _power(channels: int, limit: int) -> int:
    """The power of two that holds the channels, from 16, the least of a matrix instruction, to the limit."""
    return min(max(16, 1 << (channels - 1).bit_length()), limit)
