"""The kernels of `pointwise_kernels.py` as differentiable operators of torch, opaque to `torch.compile`.

Gradients of parameters are sums over tokens in two stages, first per tile and then over tiles in a fixed order, so
equal inputs give equal bits. They are only computed if they are required; else the operators return empty tensors.
"""

from __future__ import annotations

import math
from typing import Any

import torch
from torch import Tensor

TILE = 16
"""Most tokens in a tile of one frame."""
_ROWS, _HEAD_ROWS, _BLOCK = 2, 32, 256


@torch.library.custom_op("helix4d::modulated_norm", mutates_args=())
def modulated_norm(
    x: Tensor, scale: Tensor, shift: Tensor, tiles: Tensor, counts: Tensor, eps: float, base: float
) -> Tensor:
    """Layer normalization of x [L, C] times (base + scale), plus shift, both [F, C]: [L, C] in the type of x.

    `tiles` is int32 [n, 3], first token, end and frame of each tile; `counts` int64 [F], the tiles of each frame.
    """
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    out = _like(x)
    if len(tiles):
        kernels.modulated_norm[len(tiles),](
            x, scale, shift, out, tiles, *_rows(x, scale, shift), eps, base, **_norm_settings(x)
        )
    return out


@modulated_norm.register_fake
def _(x: Tensor, *_rest: Any) -> Tensor:
    return _like(x)


@torch.library.custom_op("helix4d::modulated_norm_gradients", mutates_args=())
def modulated_norm_gradients(
    up: Tensor, x: Tensor, scale: Tensor, tiles: Tensor, counts: Tensor, eps: float, base: float, reduce: bool
) -> tuple[Tensor, Tensor]:
    """The gradient of x [L, C] and, with `reduce`, those of scale and shift, float32 [F, 2, C], else [0, 2, C]."""
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    up = _last_contiguous(up)
    x_grad = _like(x)
    parts = x.new_empty(len(tiles) if reduce else 0, 2, x.shape[1], dtype=torch.float32)
    if len(tiles):
        kernels.modulated_norm_gradients[len(tiles),](
            x, scale, up, x_grad, parts, tiles, *_rows(x, scale, up), eps, base, reduce=reduce, **_norm_settings(x)
        )
    return x_grad, _sum_per_frame(parts, counts) if reduce else parts


@modulated_norm_gradients.register_fake
def _(
    _up: Tensor, x: Tensor, _scale: Tensor, _tiles: Tensor, counts: Tensor, _eps: float, _base: float, reduce: bool
) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty(len(counts) if reduce else 0, 2, x.shape[1], dtype=torch.float32)


def _save_norm(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    x, scale, shift, tiles, counts, ctx.eps, ctx.base = inputs
    ctx.types = scale.dtype, shift.dtype
    ctx.save_for_backward(x, scale, tiles, counts)


def _norm_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    reduce = ctx.needs_input_grad[1] or ctx.needs_input_grad[2]
    x_grad, parts = modulated_norm_gradients(up, *ctx.saved_tensors, ctx.eps, ctx.base, reduce)
    scale_grad, shift_grad = (parts[:, i].to(kind) if reduce else None for i, kind in enumerate(ctx.types))
    return x_grad, scale_grad, shift_grad, None, None, None, None


modulated_norm.register_autograd(_norm_backward, setup_context=_save_norm)


@torch.library.custom_op("helix4d::rms_norm_rotary", mutates_args=())
def rms_norm_rotary(x: Tensor, gamma: Tensor, cos: Tensor | None, sin: Tensor | None) -> Tensor:
    """x / |x| · gamma · √d, then the rotary embedding if there is one.

    x [L, H, d] with any strides of tokens and heads, gamma [H, d], cos and sin float32 [L, d/2]: [L, H, d].
    """
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    out = _like(x)
    if len(x):
        kernels.rms_norm_rotary[_programs(x),](
            x, gamma, cos, sin, out, len(x), *x.stride()[:2], math.sqrt(x.shape[-1]), **_head_settings(x, cos)
        )
    return out


@rms_norm_rotary.register_fake
def _(x: Tensor, *_rest: Any) -> Tensor:
    return _like(x)


@torch.library.custom_op("helix4d::rms_norm_rotary_gradients", mutates_args=())
def rms_norm_rotary_gradients(
    up: Tensor, x: Tensor, gamma: Tensor, cos: Tensor | None, sin: Tensor | None, reduce: bool
) -> tuple[Tensor, Tensor]:
    """The gradient of x [L, H, d] and, with `reduce`, that of gamma, float32 [H, d], else [0, d]."""
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    up = _last_contiguous(up)
    x_grad = _like(x)
    parts = x.new_empty(_programs(x) if reduce else 0, *x.shape[1:], dtype=torch.float32)
    if len(x):
        kernels.rms_norm_rotary_gradients[_programs(x),](
            x, gamma, cos, sin, up, x_grad, parts, len(x), *x.stride()[:2], *up.stride()[:2], math.sqrt(x.shape[-1]),
            reduce=reduce, **_head_settings(x, cos),
        )  # fmt: skip
    return x_grad, parts.sum(0) if reduce else parts.new_empty(0, x.shape[-1])


@rms_norm_rotary_gradients.register_fake
def _(
    _up: Tensor, x: Tensor, _gamma: Tensor, _cos: Tensor | None, _sin: Tensor | None, reduce: bool
) -> tuple[Tensor, Tensor]:
    return _like(x), x.new_empty(x.shape[1] if reduce else 0, x.shape[2], dtype=torch.float32)


def _save_heads(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    ctx.save_for_backward(*inputs)
    ctx.type = inputs[1].dtype


def _heads_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    reduce = ctx.needs_input_grad[1]
    x_grad, gamma_grad = rms_norm_rotary_gradients(up, *ctx.saved_tensors, reduce)
    return x_grad, gamma_grad.to(ctx.type) if reduce else None, None, None


rms_norm_rotary.register_autograd(_heads_backward, setup_context=_save_heads)


@torch.library.custom_op("helix4d::gated_residual", mutates_args=())
def gated_residual(x: Tensor, h: Tensor, gate: Tensor, tiles: Tensor, counts: Tensor) -> Tensor:
    """x + h · gate, with x and h [L, C] and one gate per frame [F, C]: [L, C]. Tiles as in `modulated_norm`."""
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    out = _like(x)
    if len(tiles):
        kernels.gated_residual[_grid(x, tiles)](x, h, gate, out, tiles, *_rows(x, h, gate), **_residual_settings(x))
    return out


@gated_residual.register_fake
def _(x: Tensor, *_rest: Any) -> Tensor:
    return _like(x)


@torch.library.custom_op("helix4d::gated_residual_gradients", mutates_args=())
def gated_residual_gradients(
    up: Tensor, h: Tensor | None, gate: Tensor, tiles: Tensor, counts: Tensor
) -> tuple[Tensor, Tensor]:
    """The gradient of h [L, C] and, if h is given, that of gate, float32 [F, C], else [0, C]."""
    from helix4d.model.networks.pointwise import pointwise_kernels as kernels

    up = _last_contiguous(up)
    source = up if h is None else h
    h_grad = _like(up)
    parts = up.new_empty(0 if h is None else len(tiles), up.shape[1], dtype=torch.float32)
    if len(tiles):
        kernels.gated_residual_gradients[_grid(up, tiles)](
            source, gate, up, h_grad, parts, tiles, *_rows(source, gate, up), reduce=h is not None,
            **_residual_settings(up),
        )  # fmt: skip
    return h_grad, parts if h is None else _sum_per_frame(parts, counts)


@gated_residual_gradients.register_fake
def _(up: Tensor, h: Tensor | None, _gate: Tensor, _tiles: Tensor, counts: Tensor) -> tuple[Tensor, Tensor]:
    return _like(up), up.new_empty(0 if h is None else len(counts), up.shape[1], dtype=torch.float32)


def _save_residual(ctx: Any, inputs: tuple[Tensor, ...], output: Tensor) -> None:
    _, h, gate, tiles, counts = inputs
    ctx.save_for_backward(h if ctx.needs_input_grad[2] else None, gate, tiles, counts)
    ctx.type = gate.dtype


def _residual_backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
    h_grad, gate_grad = gated_residual_gradients(up, *ctx.saved_tensors)
    return up, h_grad, gate_grad.to(ctx.type) if ctx.needs_input_grad[2] else None, None, None


gated_residual.register_autograd(_residual_backward, setup_context=_save_residual)


def _like(x: Tensor) -> Tensor:
    return torch.empty(x.shape, dtype=x.dtype, device=x.device)


def _last_contiguous(x: Tensor) -> Tensor:
    return x if x.stride(-1) == 1 else x.contiguous()


def _rows(*tensors: Tensor) -> list[int]:
    """The strides of the first axis of matrices with contiguous rows."""
    for tensor in tensors:
        if tensor.stride(1) != 1:
            raise ValueError(f"strides {tensor.stride()}: rows must be contiguous")
    return [tensor.stride(0) for tensor in tensors]


def _sum_per_frame(parts: Tensor, counts: Tensor) -> Tensor:
    """Sum [n, ...] over the tiles of each frame: [F, ...]. One thread adds one sum, so the order is fixed."""
    return torch.segment_reduce(parts, "sum", lengths=counts, axis=0, unsafe=True)


def _programs(x: Tensor) -> int:
    return -(-len(x) // _HEAD_ROWS)


def _grid(x: Tensor, tiles: Tensor) -> tuple[int, int]:
    return len(tiles), -(-x.shape[1] // _BLOCK)


def _power(size: int) -> int:
    return 1 << (size - 1).bit_length()


def _norm_settings(x: Tensor) -> dict[str, int]:
    return {"channels": x.shape[1], "width": _power(x.shape[1]), "tall": _ROWS, "num_warps": 4}


def _head_settings(x: Tensor, cos: Tensor | None) -> dict[str, int]:
    heads, size = x.shape[1:]
    turned = cos is not None
    return {"heads": heads, "size": size, "width": _power(size), "tall": _HEAD_ROWS, "turned": turned, "num_warps": 4}


def _residual_settings(x: Tensor) -> dict[str, int]:
    return {"channels": x.shape[1], "block": _BLOCK, "tall": TILE, "num_warps": 4}
