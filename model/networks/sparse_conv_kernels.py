"""Implicit-GEMM submanifold convolution in Triton: features are gathered inside the matrix product, never stored.

Shapes: x [N, I]; w [27, I, O] (one matrix per offset); neighbors int32 [27, N], −1 for none; y [N, O]. Each program
computes a tile of rows by output channels and skips offsets at which none of its rows has a neighbor. The gradient of
the input uses the same kernel with mirrored offsets; that of the weight uses a second kernel that sums over rows in a
fixed order, without atomics.
"""

from __future__ import annotations

import importlib.util
from functools import cache
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from helix4d.model.networks.sparse import KERNEL, SparseLayout

_ROWS, _INNER, _COLUMNS = 64, 32, 64
_TARGET_PROGRAMS = 1024  # several times the number of multiprocessors of any GPU


@cache
def triton_available() -> bool:
    """Return whether Triton is installed."""
    return importlib.util.find_spec("triton") is not None


def implicit_gemm_conv(feats: Tensor, weight: Tensor, bias: Tensor, layout: SparseLayout) -> Tensor:
    """Convolve features [N, in] with weight [out, 27, in] and bias [out]: [N, out], summed in float32."""
    out: Tensor = _ImplicitGemmConv.apply(feats, weight, bias, layout.neighbor_map)
    return out


class _ImplicitGemmConv(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, feats: Tensor, weight: Tensor, bias: Tensor, neighbors: Tensor) -> Tensor:
        ctx.save_for_backward(feats, weight, neighbors)
        return _gather_gemm(feats, weight.permute(1, 2, 0), neighbors) + bias

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, Tensor | None, Tensor | None, None]:
        feats, weight, neighbors = ctx.saved_tensors
        wants_feats, wants_weight, wants_bias = ctx.needs_input_grad[:3]
        # i reads j at offset o if and only if j reads i at offset 26 − o.
        mirrored = weight.permute(1, 0, 2).flip(0)
        return (
            _gather_gemm(grad, mirrored, neighbors) if wants_feats else None,
            _weight_gradient(feats, grad, neighbors).to(weight.dtype) if wants_weight else None,
            grad.sum(0) if wants_bias else None,
            None,
        )


def _gather_gemm(x: Tensor, w: Tensor, neighbors: Tensor) -> Tensor:
    """Compute Σ_o x[neighbors[o]] @ w[o]: [N, O] in the type of x."""
    import triton

    x, w = x.contiguous(), w.contiguous()
    rows, inner, columns = x.shape[0], x.shape[1], w.shape[2]
    y = x.new_empty(rows, columns)
    if rows:
        grid = (triton.cdiv(rows, _ROWS), triton.cdiv(columns, _COLUMNS))
        _kernels()["gather_gemm"][grid](x, w, neighbors, y, rows, inner, columns, _ROWS, _INNER, _COLUMNS)
    return y


def _weight_gradient(x: Tensor, grad: Tensor, neighbors: Tensor) -> Tensor:
    """Compute Σ_i grad[i] ⊗ x[neighbors[o, i]]: float32 [O, 27, I]."""
    import triton

    x, grad = x.contiguous(), grad.contiguous()
    rows, inner, columns = x.shape[0], x.shape[1], grad.shape[1]
    tiles = triton.cdiv(inner, _COLUMNS) * triton.cdiv(columns, _COLUMNS)
    splits = max(1, min(triton.cdiv(rows, _ROWS), _TARGET_PROGRAMS // (KERNEL * tiles)))
    rows_per_split = triton.cdiv(triton.cdiv(rows, splits), _INNER) * _INNER
    parts = torch.zeros(splits, KERNEL, inner, columns, dtype=torch.float32, device=x.device)
    if rows:
        grid = (KERNEL, tiles, splits)
        _kernels()["weight_gradient"][grid](
            x, grad, neighbors, parts, rows, inner, columns, rows_per_split, _INNER, _COLUMNS, _COLUMNS
        )
    return parts.sum(0).permute(2, 0, 1)


@cache
def _kernels() -> dict[str, Any]:
    """Define the kernels on first use, so that importing this file does not require Triton."""
    import triton
    import triton.language as tl

    @triton.jit
    def gather_gemm(  # type: ignore[no-untyped-def]
        x,
        w,
        neighbors,
        y,
        rows,
        inner,
        columns,
        tile_rows: tl.constexpr,
        tile_inner: tl.constexpr,
        tile_columns: tl.constexpr,
    ):
        row = tl.program_id(0) * tile_rows + tl.arange(0, tile_rows)
        column = tl.program_id(1) * tile_columns + tl.arange(0, tile_columns)
        total = tl.zeros((tile_rows, tile_columns), dtype=tl.float32)
        for offset in range(27):
            source = tl.load(neighbors + offset * rows + row, mask=row < rows, other=-1).to(tl.int64)
            if tl.max(source, axis=0) >= 0:
                for start in range(0, inner, tile_inner):
                    channel = start + tl.arange(0, tile_inner)
                    a = tl.load(
                        x + source[:, None] * inner + channel[None, :],
                        mask=(source >= 0)[:, None] & (channel < inner)[None, :],
                        other=0.0,
                    )
                    b = tl.load(
                        w + (offset * inner + channel)[:, None] * columns + column[None, :],
                        mask=(channel < inner)[:, None] & (column < columns)[None, :],
                        other=0.0,
                    )
                    total += tl.dot(a, b)
        place = y + row.to(tl.int64)[:, None] * columns + column[None, :]
        tl.store(place, total.to(y.dtype.element_ty), mask=(row < rows)[:, None] & (column < columns)[None, :])

    @triton.jit
    def weight_gradient(  # type: ignore[no-untyped-def]
        x,
        grad,
        neighbors,
        parts,
        rows,
        inner,
        columns,
        rows_per_split,
        tile_rows: tl.constexpr,
        tile_inner: tl.constexpr,
        tile_columns: tl.constexpr,
    ):
        offset = tl.program_id(0)
        tiles = tl.cdiv(columns, tile_columns)
        channel = tl.program_id(1) // tiles * tile_inner + tl.arange(0, tile_inner)
        column = tl.program_id(1) % tiles * tile_columns + tl.arange(0, tile_columns)
        split = tl.program_id(2)
        total = tl.zeros((tile_inner, tile_columns), dtype=tl.float32)
        first = split * rows_per_split
        for start in range(first, tl.minimum(first + rows_per_split, rows), tile_rows):
            row = start + tl.arange(0, tile_rows)
            source = tl.load(neighbors + offset * rows + row, mask=row < rows, other=-1).to(tl.int64)
            if tl.max(source, axis=0) >= 0:
                a = tl.load(
                    x + source[None, :] * inner + channel[:, None],
                    mask=(source >= 0)[None, :] & (channel < inner)[:, None],
                    other=0.0,
                )
                b = tl.load(
                    grad + row.to(tl.int64)[:, None] * columns + column[None, :],
                    mask=(row < rows)[:, None] & (column < columns)[None, :],
                    other=0.0,
                )
                total += tl.dot(a, b)
        place = ((split * 27 + offset).to(tl.int64) * inner + channel)[:, None] * columns + column[None, :]
        tl.store(parts + place, total, mask=(channel < inner)[:, None] & (column < columns)[None, :])

    return {"gather_gemm": gather_gemm, "weight_gradient": weight_gradient}
