"""Cross-frame attention whose keys are read in place: the window from the batch, the anchor from the batch or a cache.

Every pattern of this project shows a query at most two ranges of keys, and a key at most two ranges of queries. So a
plan is a short table of tiles, and no key is gathered, copied or masked out. The kernels are in
`window_attention_kernels.py`.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from helix4d.model.networks.frames import FrameLayout, Segment

Range = tuple[int, int]
_EMPTY: Range = (0, 0)


@dataclass(frozen=True)
class Tiling:
    """Rows and columns of a kernel's tiles, and how many warps and pipeline stages work on one."""

    rows: int
    columns: int
    warps: int
    stages: int


FORWARD = Tiling(rows=128, columns=64, warps=8, stages=3)
QUERY_GRADIENT = Tiling(rows=128, columns=64, warps=8, stages=2)
KEY_GRADIENT = Tiling(rows=128, columns=32, warps=8, stages=2)


@dataclass(frozen=True)
class TwoRanges:
    """Rows `rows` of one side see `a` and `b` of the other; where an anchor is cached, `a` counts in the cache."""

    rows: Range
    a: Range
    b: Range


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The tiles of one batch on one device, int32 [n, 6] each.

    Attributes:
        forward, query: tiles of queries with ranges of keys, for the output and for the queries' gradient.
        own: tiles of the batch's keys with ranges of queries.
        cached: tiles of the anchor cache's keys with ranges of queries; None without a cache.
    """

    forward: Tensor
    query: Tensor
    own: Tensor
    cached: Tensor | None


def plan_window(
    segments: Sequence[Segment], queries: FrameLayout, keys: FrameLayout, device: torch.device
) -> WindowPlan:
    """Tables for the kernels, from segments whose ranges count in `keys`: the cached anchor of each clip, then its own.

    Raises:
        ValueError: for a pattern that shows a query or a key more than two ranges.
    """
    is_cached = keys.first_frame < queries.first_frame
    seen = [
        _in_place(segment, queries, keys) if is_cached else _two(segment.query, segment.keys) for segment in segments
    ]
    if not is_cached:
        reverse = [(s.rows, (s.a, s.b)) for s in seen]
        own, cached = transpose(reverse, keys.tokens), None
    else:
        own = transpose([(s.rows, (s.b,)) for s in seen], queries.tokens)
        cached = transpose([(s.rows, (s.a,)) for s in seen], sum(clip[0] for clip in keys.lengths))
    return WindowPlan(
        forward=_tiles(seen, FORWARD.rows, device),
        query=_tiles(seen, QUERY_GRADIENT.rows, device),
        own=_tiles(own, KEY_GRADIENT.rows, device),
        cached=None if cached is None else _tiles(cached, KEY_GRADIENT.rows, device),
    )


def transpose(seen: Sequence[tuple[Range, Sequence[Range]]], columns: int) -> list[TwoRanges]:
    """From which columns each run of rows sees to which rows see each run of columns; all `columns` are covered."""
    cuts = sorted({0, columns, *(edge for _, ranges in seen for r in ranges if r[0] < r[1] for edge in r)})
    found: list[TwoRanges] = []
    for start, end in pairwise(cuts):
        rows: list[Range] = []
        for run, ranges in seen:
            if any(low <= start and end <= high for low, high in ranges):
                if rows and rows[-1][1] == run[0]:
                    rows[-1] = (rows[-1][0], run[1])
                else:
                    rows.append(run)
        found.append(_two((start, end), rows))
    return found


def window_attend(
    q: Tensor, k: Tensor, v: Tensor, plan: WindowPlan, cache: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """q [L, H, d] on the batch's own k and v [S, H, d] and the cached anchor's [S₀, H, d]: [L, H, d], differentiable.

    The last axis of each must be contiguous; the others may have any strides.
    """
    k_cached, v_cached = cache if cache is not None else (k, v)
    out: Tensor = _WindowAttention.apply(q, k, v, k_cached, v_cached, plan)
    return out


class _WindowAttention(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any, q: Tensor, k: Tensor, v: Tensor, k_cached: Tensor, v_cached: Tensor, plan: WindowPlan
    ) -> Tensor:
        from helix4d.model.networks.window_attention_kernels import attend

        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        lse = torch.empty(q.shape[1], q.shape[0], dtype=torch.float32, device=q.device)
        if len(plan.forward):
            sources = (q, k_cached, v_cached, k, v)
            attend[len(plan.forward), q.shape[1]](
                *sources,
                out,
                lse,
                plan.forward,
                len(q),
                _log2_scale(q),
                *_strides(*sources, out),
                **_settings(q, FORWARD),
            )
        ctx.plan = plan
        ctx.save_for_backward(q, k, v, k_cached, v_cached, out, lse)
        return out

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, up: Tensor) -> tuple[Tensor | None, ...]:
        from helix4d.model.networks.window_attention_kernels import key_value_gradients, query_gradient

        q, k, v, k_cached, v_cached, out, lse = ctx.saved_tensors
        plan: WindowPlan = ctx.plan
        up = up if up.stride(-1) == 1 else up.contiguous()
        delta = torch.einsum("lhd,lhd->hl", out.float(), up.float()).contiguous()
        scale, factor = _log2_scale(q), 1.0 / math.sqrt(q.shape[-1])
        q_grad = torch.empty(q.shape, dtype=q.dtype, device=q.device) if ctx.needs_input_grad[0] else None
        if q_grad is not None and len(plan.query):
            sources = (q, up, k_cached, v_cached, k, v)
            query_gradient[len(plan.query), q.shape[1]](
                *sources, q_grad, lse, delta, plan.query, len(q), scale, factor, *_strides(*sources, q_grad),
                **_settings(q, QUERY_GRADIENT),
            )  # fmt: skip

        def gradients(keys: Tensor, values: Tensor, tiles: Tensor) -> tuple[Tensor, Tensor]:
            grads = (
                torch.empty(keys.shape, dtype=k.dtype, device=q.device),
                torch.empty(values.shape, dtype=v.dtype, device=q.device),
            )
            if len(tiles):
                sources = (q, up, keys, values, *grads)
                key_value_gradients[len(tiles), q.shape[1]](
                    *sources,
                    lse,
                    delta,
                    tiles,
                    len(q),
                    scale,
                    factor,
                    *_strides(*sources),
                    **_settings(q, KEY_GRADIENT),
                )
            return grads

        own: tuple[Tensor | None, Tensor | None] = (None, None)
        cached: tuple[Tensor | None, Tensor | None] = (None, None)
        if any(ctx.needs_input_grad[1:3]):
            own = gradients(k, v, plan.own)
        if plan.cached is not None and any(ctx.needs_input_grad[3:5]):
            cached = gradients(k_cached, v_cached, plan.cached)
        return q_grad, *own, *cached, None


def _two(rows: Range, ranges: Sequence[Range]) -> TwoRanges:
    if len(ranges) > 2:
        raise ValueError(f"rows {rows[0]} to {rows[1]} see {len(ranges)} ranges: this kernel takes two")
    a, b = (*ranges, _EMPTY, _EMPTY)[:2]
    return TwoRanges(rows, a, b)


def _in_place(segment: Segment, queries: FrameLayout, keys: FrameLayout) -> TwoRanges:
    """The segment with its range of cached keys as `a` and its range of the batch's own keys as `b`."""
    cached: list[Range] = []
    own: list[Range] = []
    for start, end in segment.keys:
        for low, high, shift, part in _parts(queries, keys):
            inside = (max(start, low), min(end, high))
            if inside[0] < inside[1]:
                (cached if part else own).append((inside[0] + shift, inside[1] + shift))
    if len(cached) > 1 or len(own) > 1:
        raise ValueError(
            f"queries {segment.query} see {len(cached)} cached and {len(own)} own ranges of keys: one each"
        )
    return TwoRanges(segment.query, *(cached or [_EMPTY]), *(own or [_EMPTY]))


def _parts(queries: FrameLayout, keys: FrameLayout) -> Iterator[tuple[int, int, int, bool]]:
    """Of the keys of each clip, the cached and the own part: where it is, how far from its place in its own tensor."""
    start = cached = own = 0
    for clip, here in zip(keys.lengths, queries.lengths, strict=True):
        middle, end = start + clip[0], start + sum(clip)
        yield start, middle, cached - start, True
        yield middle, end, own - middle, False
        start, cached, own = end, cached + clip[0], own + sum(here)


def _tiles(runs: Sequence[TwoRanges], rows: int, device: torch.device) -> Tensor:
    table = [
        (first, min(first + rows, run.rows[1]), *run.a, *run.b)
        for run in runs
        for first in range(run.rows[0], run.rows[1], rows)
    ]
    return torch.tensor(table, dtype=torch.int32, device=device).reshape(-1, 6)


def _strides(*tensors: Tensor) -> list[int]:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"strides {tensor.stride()}: the last axis must be contiguous")
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


def _log2_scale(q: Tensor) -> float:
    return math.log2(math.e) / math.sqrt(q.shape[-1])


def _settings(q: Tensor, tiling: Tiling) -> dict[str, Any]:
    head = q.shape[-1]
    return {
        "tile_rows": tiling.rows,
        "tile_columns": tiling.columns,
        "head_size": head,
        "width": max(16, 1 << (head - 1).bit_length()),
        "precision": "ieee" if q.dtype == torch.float32 else "tf32",
        "num_warps": tiling.warps,
        "num_stages": tiling.stages,
    }
