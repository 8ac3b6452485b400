"""Attention over at most two ranges of keys that are read in place, in Triton: forward and backward.

Shapes: q, k, v, out and their gradients [tokens, heads, size], the last axis contiguous; lse and delta float32
[heads, queries]; tiles int32 [n, 6], each `first, end, a0, a1, b0, b1`: the tokens first … end (at most `tall`) see the
tokens a0 … a1 of the tensors called `_a` and b0 … b1 of those called `_b`, `step` at a time. Logits are in powers of
two. `width` is `size` rounded up to a power of two; the channels between are masked. `exact` is the precision of matrix
products of float32.
"""

from __future__ import annotations

import triton
import triton.language as tl


@triton.jit
def _load(  # type: ignore[no-untyped-def]
    base, start, end, stride, tall: tl.constexpr, size: tl.constexpr, width: tl.constexpr, masked: tl.constexpr
):  # fmt: skip
    """Rows start … start + tall of a [*, size] matrix; zeros from `end` on."""
    row = tl.arange(0, tall)
    column = tl.arange(0, width)
    place = base + tl.cast(start, tl.int64) * stride + row[:, None] * stride + column[None, :]
    if masked:
        return tl.load(place, mask=(row < end - start)[:, None] & (column < size)[None, :], other=0.0)
    if width != size:
        return tl.load(place, mask=(column < size)[None, :], other=0.0)
    return tl.load(place)


@triton.jit
def _forward_step(  # type: ignore[no-untyped-def]
    q, total, norm, peak, k, v, start, end, k_stride, v_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    """Fold one tile of keys into the running softmax."""
    keys = _load(k, start, end, k_stride, step, size, width, masked)
    logits = tl.dot(q, tl.trans(keys), input_precision=exact)
    if masked:
        logits = tl.where((tl.arange(0, step) < end - start)[None, :], logits, float("-inf"))
    higher = tl.maximum(peak, tl.max(logits, 1) * scale)
    weights = tl.exp2(logits * scale - higher[:, None])  # one fused multiply-add: the scale is positive
    fade = tl.exp2(peak - higher)
    norm = norm * fade + tl.sum(weights, 1)
    values = _load(v, start, end, v_stride, step, size, width, masked)
    total = tl.dot(weights.to(values.dtype), values, total * fade[:, None], input_precision=exact)
    return total, norm, higher


@triton.jit
def _forward_range(  # type: ignore[no-untyped-def]
    q, total, norm, peak, k, v, start, end, k_stride, v_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """Fold the keys start … end: whole tiles without masks, then what is left."""
    whole = start + (end - start) // step * step
    for first in tl.range(start, whole, step):
        total, norm, peak = _forward_step(
            q, total, norm, peak, k, v, first, end, k_stride, v_stride, scale, step, size, width, exact, False
        )  # fmt: skip
    if whole < end:
        total, norm, peak = _forward_step(
            q, total, norm, peak, k, v, whole, end, k_stride, v_stride, scale, step, size, width, exact, True
        )  # fmt: skip
    return total, norm, peak


@triton.jit
def attend(  # type: ignore[no-untyped-def]
    q, k_a, v_a, k_b, v_b, out, lse, tiles, queries, scale,
    q_row, q_head, ka_row, ka_head, va_row, va_head, kb_row, kb_head, vb_row, vb_head, out_row, out_head,
    tall: tl.constexpr, step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """out and lse of one tile of queries in one head; grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    rows = _load(q + head * q_head, first, end, q_row, tall, size, width, True)
    total = tl.zeros((tall, width), tl.float32)
    norm = tl.zeros((tall,), tl.float32)
    peak = tl.full((tall,), float("-inf"), tl.float32)
    total, norm, peak = _forward_range(
        rows, total, norm, peak, k_a + head * ka_head, v_a + head * va_head, tl.load(tile + 2), tl.load(tile + 3),
        ka_row, va_row, scale, step, size, width, exact,
    )  # fmt: skip
    total, norm, peak = _forward_range(
        rows, total, norm, peak, k_b + head * kb_head, v_b + head * vb_head, tl.load(tile + 4), tl.load(tile + 5),
        kb_row, vb_row, scale, step, size, width, exact,
    )  # fmt: skip
    row, column = tl.arange(0, tall), tl.arange(0, width)
    inside = row < end - first
    place = out + head * out_head + first.to(tl.int64) * out_row + row[:, None] * out_row + column[None, :]
    result = (total / norm[:, None]).to(out.dtype.element_ty)
    tl.store(place, result, mask=inside[:, None] & (column < size)[None, :])
    tl.store(lse + head.to(tl.int64) * queries + first + row, peak + tl.log2(norm), mask=inside)


@triton.jit
def _query_step(  # type: ignore[no-untyped-def]
    q, up, total, lse, delta, k, v, start, end, k_stride, v_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    keys = _load(k, start, end, k_stride, step, size, width, masked)
    values = _load(v, start, end, v_stride, step, size, width, masked)
    weights = tl.exp2(tl.dot(q, tl.trans(keys), input_precision=exact) * scale - lse[:, None])
    if masked:
        weights = tl.where((tl.arange(0, step) < end - start)[None, :], weights, 0.0)
    slopes = weights * (tl.dot(up, tl.trans(values), input_precision=exact) - delta[:, None])
    return tl.dot(slopes.to(keys.dtype), keys, total, input_precision=exact)


@triton.jit
def _query_range(  # type: ignore[no-untyped-def]
    q, up, total, lse, delta, k, v, start, end, k_stride, v_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    whole = start + (end - start) // step * step
    for first in tl.range(start, whole, step):
        total = _query_step(
            q, up, total, lse, delta, k, v, first, end, k_stride, v_stride, scale, step, size, width, exact,
            False,
        )  # fmt: skip
    if whole < end:
        total = _query_step(
            q, up, total, lse, delta, k, v, whole, end, k_stride, v_stride, scale, step, size, width, exact,
            True,
        )  # fmt: skip
    return total


@triton.jit
def query_gradient(  # type: ignore[no-untyped-def]
    q, up, out, k_a, v_a, k_b, v_b, grad, lse, delta, tiles, queries, scale, factor,
    q_row, q_head, up_row, up_head, out_row, out_head, ka_row, ka_head, va_row, va_head, kb_row, kb_head, vb_row,
    vb_head, grad_row, grad_head,
    tall: tl.constexpr, step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """The gradient of one tile of queries in one head, and delta = Σ out · up of its queries; grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    rows = _load(q + head * q_head, first, end, q_row, tall, size, width, True)
    ups = _load(up + head * up_head, first, end, up_row, tall, size, width, True)
    row, column = tl.arange(0, tall), tl.arange(0, width)
    inside = row < end - first
    norms = tl.load(lse + head.to(tl.int64) * queries + first + row, mask=inside, other=0.0)
    outs = _load(out + head * out_head, first, end, out_row, tall, size, width, True)
    means = tl.sum(outs.to(tl.float32) * ups.to(tl.float32), 1)
    tl.store(delta + head.to(tl.int64) * queries + first + row, means, mask=inside)
    total = tl.zeros((tall, width), tl.float32)
    total = _query_range(
        rows, ups, total, norms, means, k_a + head * ka_head, v_a + head * va_head, tl.load(tile + 2),
        tl.load(tile + 3), ka_row, va_row, scale, step, size, width, exact,
    )  # fmt: skip
    total = _query_range(
        rows, ups, total, norms, means, k_b + head * kb_head, v_b + head * vb_head, tl.load(tile + 4),
        tl.load(tile + 5), kb_row, vb_row, scale, step, size, width, exact,
    )  # fmt: skip
    place = grad + head * grad_head + first.to(tl.int64) * grad_row + row[:, None] * grad_row + column[None, :]
    tl.store(place, (total * factor).to(grad.dtype.element_ty), mask=inside[:, None] & (column < size)[None, :])


@triton.jit
def _key_step(  # type: ignore[no-untyped-def]
    keys, values, key_total, value_total, q, up, lse, delta, start, end, q_stride, up_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr, masked: tl.constexpr,
):  # fmt: skip
    queries = _load(q, start, end, q_stride, step, size, width, masked)
    ups = _load(up, start, end, up_stride, step, size, width, masked)
    column = tl.arange(0, step)
    if masked:
        norms = tl.load(lse + start + column, mask=column < end - start, other=0.0)
        means = tl.load(delta + start + column, mask=column < end - start, other=0.0)
    else:
        norms = tl.load(lse + start + column)
        means = tl.load(delta + start + column)
    weights = tl.exp2(tl.dot(keys, tl.trans(queries), input_precision=exact) * scale - norms[None, :])
    if masked:
        weights = tl.where((column < end - start)[None, :], weights, 0.0)
    value_total = tl.dot(weights.to(ups.dtype), ups, value_total, input_precision=exact)
    slopes = weights * (tl.dot(values, tl.trans(ups), input_precision=exact) - means[None, :])
    key_total = tl.dot(slopes.to(queries.dtype), queries, key_total, input_precision=exact)
    return key_total, value_total


@triton.jit
def _key_range(  # type: ignore[no-untyped-def]
    keys, values, key_total, value_total, q, up, lse, delta, start, end, q_stride, up_stride, scale,
    step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    whole = start + (end - start) // step * step
    for first in tl.range(start, whole, step):
        key_total, value_total = _key_step(
            keys, values, key_total, value_total, q, up, lse, delta, first, end, q_stride, up_stride, scale, step,
            size, width, exact, False,
        )  # fmt: skip
    if whole < end:
        key_total, value_total = _key_step(
            keys, values, key_total, value_total, q, up, lse, delta, whole, end, q_stride, up_stride, scale, step,
            size, width, exact, True,
        )  # fmt: skip
    return key_total, value_total


@triton.jit
def key_value_gradients(  # type: ignore[no-untyped-def]
    q, up, k, v, k_grad, v_grad, lse, delta, tiles, queries, scale, factor,
    q_row, q_head, up_row, up_head, k_row, k_head, v_row, v_head, kg_row, kg_head, vg_row, vg_head,
    tall: tl.constexpr, step: tl.constexpr, size: tl.constexpr, width: tl.constexpr, exact: tl.constexpr,
):  # fmt: skip
    """The gradients of one tile of keys and values in one head; a tile's ranges are of queries. Grid (tiles, heads)."""
    tile = tiles + tl.program_id(0) * 6
    head = tl.program_id(1)
    first, end = tl.load(tile), tl.load(tile + 1)
    keys = _load(k + head * k_head, first, end, k_row, tall, size, width, True)
    values = _load(v + head * v_head, first, end, v_row, tall, size, width, True)
    key_total = tl.zeros((tall, width), tl.float32)
    value_total = tl.zeros((tall, width), tl.float32)
    lse += head.to(tl.int64) * queries
    delta += head.to(tl.int64) * queries
    for part in tl.static_range(2):
        key_total, value_total = _key_range(
            keys, values, key_total, value_total, q + head * q_head, up + head * up_head, lse, delta,
            tl.load(tile + 2 + 2 * part), tl.load(tile + 3 + 2 * part), q_row, up_row, scale, step, size, width,
            exact,
        )  # fmt: skip
    row, column = tl.arange(0, tall), tl.arange(0, width)
    inside = (row < end - first)[:, None] & (column < size)[None, :]
    place = first.to(tl.int64) * kg_row + row[:, None] * kg_row + column[None, :]
    tl.store(k_grad + head * kg_head + place, (key_total * factor).to(k_grad.dtype.element_ty), mask=inside)
    place = first.to(tl.int64) * vg_row + row[:, None] * vg_row + column[None, :]
    tl.store(v_grad + head * vg_head + place, value_total.to(v_grad.dtype.element_ty), mask=inside)
