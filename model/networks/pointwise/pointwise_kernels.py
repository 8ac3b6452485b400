"""The parts of a block between its matrix products, in Triton, forward and backward.

Shapes: x, out, up (the gradient of the output) and gradients [tokens, channels], or [tokens, heads, size] around
attention; scale, shift and gate [frames, channels]; gamma [heads, size]; cos and sin [tokens, size / 2]. The last axis
is contiguous, the others have strides. tiles int32 [n, 3], each `first, end, frame`: the tokens first … end of one
frame, at most 16. `width` is the number of channels rounded up to a power of two; all arithmetic is in float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _normalize(x, row, end, x_row, eps, channels: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """Normalized rows [tall, width] and 1 / standard deviation [tall]; zeros outside."""
    column = tl.arange(0, width)
    inside = (row < end)[:, None] & (column < channels)[None, :]
    values = tl.load(x + row.to(tl.int64)[:, None] * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    mean = tl.sum(values, 1) / channels
    centered = tl.where(inside, values - mean[:, None], 0.0)
    inverse = 1.0 / tl.sqrt(tl.sum(centered * centered, 1) / channels + eps)
    return centered * inverse[:, None], inverse, inside


@triton.jit
def modulated_norm(  # type: ignore[no-untyped-def]
    x, scale, shift, out, tiles, x_row, scale_row, shift_row, eps, base,
    channels: tl.constexpr, width: tl.constexpr, tall: tl.constexpr,
):  # fmt: skip
    """out = normalized x · (base + scale) + shift for one tile of tokens; grid (tiles,)."""
    tile = tiles + tl.program_id(0) * 3
    first, end, frame = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    column = tl.arange(0, width)
    known = column < channels
    gain = base + tl.load(scale + frame * scale_row + column, mask=known, other=0.0).to(tl.float32)
    offset = tl.load(shift + frame * shift_row + column, mask=known, other=0.0).to(tl.float32)
    for start in range(first, end, tall):
        row = start + tl.arange(0, tall)
        normal, _, inside = _normalize(x, row, end, x_row, eps, channels, width)
        result = normal * gain[None, :] + offset[None, :]
        place = row.to(tl.int64)[:, None] * channels + column[None, :]
        tl.store(out + place, result.to(out.dtype.element_ty), mask=inside)


@triton.jit
def modulated_norm_gradients(  # type: ignore[no-untyped-def]
    x, scale, up, x_grad, parts, tiles, x_row, scale_row, up_row, eps, base,
    channels: tl.constexpr, width: tl.constexpr, tall: tl.constexpr, reduce: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of x and, with `reduce`, the tile's share of those of scale and shift: [n, 2, channels].

    Grid (tiles,).
    """
    tile = tiles + tl.program_id(0) * 3
    first, end, frame = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    column = tl.arange(0, width)
    known = column < channels
    gain = base + tl.load(scale + frame * scale_row + column, mask=known, other=0.0).to(tl.float32)
    scale_total = tl.zeros((width,), tl.float32)
    shift_total = tl.zeros((width,), tl.float32)
    for start in range(first, end, tall):
        row = start + tl.arange(0, tall)
        normal, inverse, inside = _normalize(x, row, end, x_row, eps, channels, width)
        slope = tl.load(up + row.to(tl.int64)[:, None] * up_row + column[None, :], mask=inside, other=0.0)
        slope = slope.to(tl.float32)
        if reduce:
            scale_total += tl.sum(slope * normal, 0)
            shift_total += tl.sum(slope, 0)
        slope = tl.where(inside, slope * gain[None, :], 0.0)
        mean = tl.sum(slope, 1) / channels
        along = tl.sum(slope * normal, 1) / channels
        result = (slope - mean[:, None] - normal * along[:, None]) * inverse[:, None]
        place = row.to(tl.int64)[:, None] * channels + column[None, :]
        tl.store(x_grad + place, result.to(x_grad.dtype.element_ty), mask=inside)
    if reduce:
        part = parts + tl.program_id(0).to(tl.int64) * 2 * channels + column
        tl.store(part, scale_total, mask=known)
        tl.store(part + channels, shift_total, mask=known)


@triton.jit
def _rotate(x, cos, sin, tall: tl.constexpr, width: tl.constexpr):  # type: ignore[no-untyped-def]
    """Rotate the adjacent pairs of x [tall, width] by angles with these cosines and sines [tall, width / 2]."""
    a, b = tl.split(tl.reshape(x, (tall, width // 2, 2)))
    return tl.reshape(tl.join(a * cos - b * sin, a * sin + b * cos), (tall, width))


@triton.jit
def _angles(  # type: ignore[no-untyped-def]
    cos, sin, row, known, size: tl.constexpr, width: tl.constexpr
):  # fmt: skip
    pair = tl.arange(0, width // 2)
    place = row[:, None] * (size // 2) + pair[None, :]
    inside = known[:, None] & (pair < size // 2)[None, :]
    return tl.load(cos + place, mask=inside, other=0.0), tl.load(sin + place, mask=inside, other=0.0)


@triton.jit
def _direction(x, place, inside):  # type: ignore[no-untyped-def]
    """Rows x / |x| and 1 / |x|, with the lower bound of `torch.nn.functional.normalize`."""
    values = tl.load(x + place, mask=inside, other=0.0).to(tl.float32)
    inverse = 1.0 / tl.maximum(tl.sqrt(tl.sum(values * values, 1)), 1e-12)
    return values * inverse[:, None], inverse


@triton.jit
def rms_norm_rotary(  # type: ignore[no-untyped-def]
    x, gamma, cos, sin, out, tokens, x_row, x_head, scale,
    heads: tl.constexpr, size: tl.constexpr, width: tl.constexpr, tall: tl.constexpr, turned: tl.constexpr,
):  # fmt: skip
    """out = rotary(x / |x| · gamma · scale) for `tall` tokens and all heads; grid (⌈tokens / tall⌉,)."""
    row = tl.program_id(0).to(tl.int64) * tall + tl.arange(0, tall)
    column = tl.arange(0, width)
    known = row < tokens
    inside = known[:, None] & (column < size)[None, :]
    if turned:
        cosines, sines = _angles(cos, sin, row, known, size, width)
    for head in range(heads):
        y, _ = _direction(x, row[:, None] * x_row + head * x_head + column[None, :], inside)
        gain = tl.load(gamma + head * size + column, mask=column < size, other=0.0).to(tl.float32) * scale
        y *= gain[None, :]
        if turned:
            y = _rotate(y, cosines, sines, tall, width)
        place = (row[:, None] * heads + head) * size + column[None, :]
        tl.store(out + place, y.to(out.dtype.element_ty), mask=inside)


@triton.jit
def rms_norm_rotary_gradients(  # type: ignore[no-untyped-def]
    x, gamma, cos, sin, up, x_grad, parts, tokens, x_row, x_head, up_row, up_head, scale,
    heads: tl.constexpr, size: tl.constexpr, width: tl.constexpr, tall: tl.constexpr, turned: tl.constexpr,
    reduce: tl.constexpr,
):  # fmt: skip
    """The gradient of `tall` tokens of x and, with `reduce`, their share of gamma's: [programs, heads, size]."""
    row = tl.program_id(0).to(tl.int64) * tall + tl.arange(0, tall)
    column = tl.arange(0, width)
    known = row < tokens
    inside = known[:, None] & (column < size)[None, :]
    if turned:
        cosines, sines = _angles(cos, sin, row, known, size, width)
    for head in range(heads):
        slope = tl.load(up + row[:, None] * up_row + head * up_head + column[None, :], mask=inside, other=0.0)
        slope = slope.to(tl.float32) * scale
        if turned:
            slope = _rotate(slope, cosines, -sines, tall, width)
        direction, inverse = _direction(x, row[:, None] * x_row + head * x_head + column[None, :], inside)
        if reduce:
            part = parts + (tl.program_id(0).to(tl.int64) * heads + head) * size + column
            tl.store(part, tl.sum(slope * direction, 0), mask=column < size)
        slope *= tl.load(gamma + head * size + column, mask=column < size, other=0.0).to(tl.float32)[None, :]
        along = tl.sum(slope * direction, 1)
        result = (slope - direction * along[:, None]) * inverse[:, None]
        place = (row[:, None] * heads + head) * size + column[None, :]
        tl.store(x_grad + place, result.to(x_grad.dtype.element_ty), mask=inside)


@triton.jit
def gated_residual(  # type: ignore[no-untyped-def]
    x, h, gate, out, tiles, x_row, h_row, gate_row,
    channels: tl.constexpr, block: tl.constexpr, tall: tl.constexpr,
):  # fmt: skip
    """out = x + h · gate for one tile of tokens and `block` channels; grid (tiles, ⌈channels / block⌉)."""
    tile = tiles + tl.program_id(0) * 3
    first, end, frame = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    row = (first + tl.arange(0, tall)).to(tl.int64)[:, None]
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = (row < end) & (column < channels)[None, :]
    gates = tl.load(gate + frame * gate_row + column, mask=column < channels, other=0.0).to(tl.float32)
    change = tl.load(h + row * h_row + column[None, :], mask=inside, other=0.0).to(tl.float32) * gates[None, :]
    total = tl.load(x + row * x_row + column[None, :], mask=inside, other=0.0).to(tl.float32) + change
    tl.store(out + row * channels + column[None, :], total.to(out.dtype.element_ty), mask=inside)


@triton.jit
def gated_residual_gradients(  # type: ignore[no-untyped-def]
    h, gate, up, h_grad, parts, tiles, h_row, gate_row, up_row,
    channels: tl.constexpr, block: tl.constexpr, tall: tl.constexpr, reduce: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of h and, with `reduce`, the tile's share of that of gate: [n, channels]."""
    tile = tiles + tl.program_id(0) * 3
    first, end, frame = tl.load(tile), tl.load(tile + 1), tl.load(tile + 2)
    row = (first + tl.arange(0, tall)).to(tl.int64)[:, None]
    column = tl.program_id(1) * block + tl.arange(0, block)
    inside = (row < end) & (column < channels)[None, :]
    gates = tl.load(gate + frame * gate_row + column, mask=column < channels, other=0.0).to(tl.float32)
    slope = tl.load(up + row * up_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
    result = (slope * gates[None, :]).to(h_grad.dtype.element_ty)
    tl.store(h_grad + row * channels + column[None, :], result, mask=inside)
    if reduce:
        change = tl.load(h + row * h_row + column[None, :], mask=inside, other=0.0).to(tl.float32)
        part = parts + tl.program_id(0).to(tl.int64) * channels + column
        tl.store(part, tl.sum(slope * change, 0), mask=column < channels)
