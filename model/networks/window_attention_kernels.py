"""Attention over at most two ranges of columns that are read in place, in Triton: forward and backward.

Shapes: q, k, v, out and their gradients [rows, heads, head_size], the last axis contiguous; lse and delta float32
[heads, queries]; tiles int32 [n, 6], each `first row, end, a0, a1, b0, b1`: the tile's rows see the columns a0 … a1 of
the tensors called `_a` and b0 … b1 of those called `_b`. Logits are kept in powers of two. width is head_size rounded up to
what a matrix product takes; the columns between are masked.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(
    base,
    start,
    end,
    stride,
    tile_rows: tl.constexpr,
    head_size: tl.constexpr,
    width: tl.constexpr,
    masked: tl.constexpr,
):  # type: ignore[no-untyped-def]
    """Rows start … start + tile_rows of a [*, head_size] matrix; zeros from `end` on."""
    row = tl.arange(0, tile_rows)
    column = tl.arange(0, width)
    place = base + tl.cast(start, tl.int64) * stride + row[:, None] * stride + column[None, :]
    if masked:
        return tl.load(place, mask=(row < end - start)[:, None] & (column < head_size)[None, :], other=0.0)
    if width != head_size:
        return tl.load(place, mask=(column < head_size)[None, :], other=0.0)
    return tl.load(place)


@triton.jit
def _forward_step(  # type: ignore[no-untyped-def]
    q, total, norm, peak, k, v, start, end, k_stride, v_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    """Fold one tile of keys into the running softmax."""
    keys = _load(k, start, end, k_stride, tile_columns, head_size, width, masked)
    logits = tl.dot(q, tl.trans(keys), input_precision=precision) * scale
    if masked:
        logits = tl.where((tl.arange(0, tile_columns) < end - start)[None, :], logits, float("-inf"))
    higher = tl.maximum(peak, tl.max(logits, 1))
    weights = tl.exp2(logits - higher[:, None])
    fade = tl.exp2(peak - higher)
    norm = norm * fade + tl.sum(weights, 1)
    values = _load(v, start, end, v_stride, tile_columns, head_size, width, masked)
    total = tl.dot(weights.to(values.dtype), values, total * fade[:, None], input_precision=precision)
    return total, norm, higher


@triton.jit
def _forward_range(  # type: ignore[no-untyped-def]
    q, total, norm, peak, k, v, start, end, k_stride, v_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """Fold the keys start … end: whole tiles without masks, then what is left."""
    whole = start + (end - start) // tile_columns * tile_columns
    for first in tl.range(start, whole, tile_columns):
        total, norm, peak = _forward_step(
            q, total, norm, peak, k, v, first, end, k_stride, v_stride, scale, tile_columns, head_size, width, precision, False
        )  # fmt: skip
    if whole < end:
        total, norm, peak = _forward_step(
            q, total, norm, peak, k, v, whole, end, k_stride, v_stride, scale, tile_columns, head_size, width, precision, True
        )  # fmt: skip
    return total, norm, peak


@triton.jit
def attend(  # type: ignore[no-untyped-def]
    q, k_a, v_a, k_b, v_b, out, lse, tiles, queries, scale,
    q_row, q_head, ka_row, ka_head, va_row, va_head, kb_row, kb_head, vb_row, vb_head, out_row, out_head,
    tile_rows: tl.constexpr, tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """out and lse of one tile of queries in one head; grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    rows = _load(q + head * q_head, first, end, q_row, tile_rows, head_size, width, True)
    total = tl.zeros((tile_rows, width), tl.float32)
    norm = tl.zeros((tile_rows,), tl.float32)
    peak = tl.full((tile_rows,), float("-inf"), tl.float32)
    total, norm, peak = _forward_range(
        rows, total, norm, peak, k_a + head * ka_head, v_a + head * va_head, tl.load(tile + 2), tl.load(tile + 3),
        ka_row, va_row, scale, tile_columns, head_size, width, precision,
    )  # fmt: skip
    total, norm, peak = _forward_range(
        rows, total, norm, peak, k_b + head * kb_head, v_b + head * vb_head, tl.load(tile + 4), tl.load(tile + 5),
        kb_row, vb_row, scale, tile_columns, head_size, width, precision,
    )  # fmt: skip
    row, column = tl.arange(0, tile_rows), tl.arange(0, width)
    inside = row < end - first
    place = out + head * out_head + first.to(tl.int64) * out_row + row[:, None] * out_row + column[None, :]
    result = (total / norm[:, None]).to(out.dtype.element_ty)
    tl.store(place, result, mask=inside[:, None] & (column < head_size)[None, :])
    tl.store(lse + head.to(tl.int64) * queries + first + row, peak + tl.log2(norm), mask=inside)


@triton.jit
def _query_step(  # type: ignore[no-untyped-def]
    q, up, total, lse, delta, k, v, start, end, k_stride, v_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    keys = _load(k, start, end, k_stride, tile_columns, head_size, width, masked)
    values = _load(v, start, end, v_stride, tile_columns, head_size, width, masked)
    weights = tl.exp2(tl.dot(q, tl.trans(keys), input_precision=precision) * scale - lse[:, None])
    if masked:
        weights = tl.where((tl.arange(0, tile_columns) < end - start)[None, :], weights, 0.0)
    slopes = weights * (tl.dot(up, tl.trans(values), input_precision=precision) - delta[:, None])
    return tl.dot(slopes.to(keys.dtype), keys, total, input_precision=precision)


@triton.jit
def _query_range(  # type: ignore[no-untyped-def]
    q, up, total, lse, delta, k, v, start, end, k_stride, v_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    whole = start + (end - start) // tile_columns * tile_columns
    for first in tl.range(start, whole, tile_columns):
        total = _query_step(
            q, up, total, lse, delta, k, v, first, end, k_stride, v_stride, scale, tile_columns, head_size, width, precision,
            False,
        )  # fmt: skip
    if whole < end:
        total = _query_step(
            q, up, total, lse, delta, k, v, whole, end, k_stride, v_stride, scale, tile_columns, head_size, width, precision,
            True,
        )  # fmt: skip
    return total


@triton.jit
def query_gradient(  # type: ignore[no-untyped-def]
    q, up, k_a, v_a, k_b, v_b, grad, lse, delta, tiles, queries, scale, factor,
    q_row, q_head, up_row, up_head, ka_row, ka_head, va_row, va_head, kb_row, kb_head, vb_row, vb_head,
    grad_row, grad_head,
    tile_rows: tl.constexpr, tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of queries in one head; grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    rows = _load(q + head * q_head, first, end, q_row, tile_rows, head_size, width, True)
    ups = _load(up + head * up_head, first, end, up_row, tile_rows, head_size, width, True)
    row, column = tl.arange(0, tile_rows), tl.arange(0, width)
    inside = row < end - first
    norms = tl.load(lse + head.to(tl.int64) * queries + first + row, mask=inside, other=0.0)
    means = tl.load(delta + head.to(tl.int64) * queries + first + row, mask=inside, other=0.0)
    total = tl.zeros((tile_rows, width), tl.float32)
    total = _query_range(
        rows, ups, total, norms, means, k_a + head * ka_head, v_a + head * va_head, tl.load(tile + 2),
        tl.load(tile + 3), ka_row, va_row, scale, tile_columns, head_size, width, precision,
    )  # fmt: skip
    total = _query_range(
        rows, ups, total, norms, means, k_b + head * kb_head, v_b + head * vb_head, tl.load(tile + 4),
        tl.load(tile + 5), kb_row, vb_row, scale, tile_columns, head_size, width, precision,
    )  # fmt: skip
    place = grad + head * grad_head + first.to(tl.int64) * grad_row + row[:, None] * grad_row + column[None, :]
    tl.store(place, (total * factor).to(grad.dtype.element_ty), mask=inside[:, None] & (column < head_size)[None, :])


@triton.jit
def _key_step(  # type: ignore[no-untyped-def]
    keys, values, key_total, value_total, q, up, lse, delta, start, end, q_stride, up_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    queries = _load(q, start, end, q_stride, tile_columns, head_size, width, masked)
    ups = _load(up, start, end, up_stride, tile_columns, head_size, width, masked)
    column = tl.arange(0, tile_columns)
    if masked:
        norms = tl.load(lse + start + column, mask=column < end - start, other=0.0)
        means = tl.load(delta + start + column, mask=column < end - start, other=0.0)
    else:
        norms = tl.load(lse + start + column)
        means = tl.load(delta + start + column)
    weights = tl.exp2(tl.dot(keys, tl.trans(queries), input_precision=precision) * scale - norms[None, :])
    if masked:
        weights = tl.where((column < end - start)[None, :], weights, 0.0)
    value_total = tl.dot(weights.to(ups.dtype), ups, value_total, input_precision=precision)
    slopes = weights * (tl.dot(values, tl.trans(ups), input_precision=precision) - means[None, :])
    key_total = tl.dot(slopes.to(queries.dtype), queries, key_total, input_precision=precision)
    return key_total, value_total


@triton.jit
def _key_range(  # type: ignore[no-untyped-def]
    keys, values, key_total, value_total, q, up, lse, delta, start, end, q_stride, up_stride, scale,
    tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    whole = start + (end - start) // tile_columns * tile_columns
    for first in tl.range(start, whole, tile_columns):
        key_total, value_total = _key_step(
            keys, values, key_total, value_total, q, up, lse, delta, first, end, q_stride, up_stride, scale, tile_columns,
            head_size, width, precision, False,
        )  # fmt: skip
    if whole < end:
        key_total, value_total = _key_step(
            keys, values, key_total, value_total, q, up, lse, delta, whole, end, q_stride, up_stride, scale, tile_columns,
            head_size, width, precision, True,
        )  # fmt: skip
    return key_total, value_total


@triton.jit
def key_value_gradients(  # type: ignore[no-untyped-def]
    q, up, k, v, k_grad, v_grad, lse, delta, tiles, queries, scale, factor,
    q_row, q_head, up_row, up_head, k_row, k_head, v_row, v_head, kg_row, kg_head, vg_row, vg_head,
    tile_rows: tl.constexpr, tile_columns: tl.constexpr, head_size: tl.constexpr, width: tl.constexpr, precision: tl.constexpr,
):  # fmt: skip
    """The gradients of one tile of keys and values in one head; a tile's ranges are of queries. Grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    keys = _load(k + head * k_head, first, end, k_row, tile_rows, head_size, width, True)
    values = _load(v + head * v_head, first, end, v_row, tile_rows, head_size, width, True)
    key_total = tl.zeros((tile_rows, width), tl.float32)
    value_total = tl.zeros((tile_rows, width), tl.float32)
    lse += head.to(tl.int64) * queries
    delta += head.to(tl.int64) * queries
    for part in tl.static_range(2):
        key_total, value_total = _key_range(
            keys, values, key_total, value_total, q + head * q_head, up + head * up_head, lse, delta,
            tl.load(tile + 2 + 2 * part), tl.load(tile + 3 + 2 * part), q_row, up_row, scale, tile_columns, head_size, width,
            precision,
        )  # fmt: skip
    row, column = tl.arange(0, tile_rows), tl.arange(0, width)
    inside = (row < end - first)[:, None] & (column < head_size)[None, :]
    place = first.to(tl.int64) * kg_row + row[:, None] * kg_row + column[None, :]
    tl.store(k_grad + head * kg_head + place, (key_total * factor).to(k_grad.dtype.element_ty), mask=inside)
    place = first.to(tl.int64) * vg_row + row[:, None] * vg_row + column[None, :]
    tl.store(v_grad + head * vg_head + place, value_total.to(v_grad.dtype.element_ty), mask=inside)
