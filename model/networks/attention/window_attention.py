"""Cross-frame attention that reads its keys in place: the window from the batch, the anchor from the batch or a cache.

Every pattern of this project shows a query at most two ranges of keys, and a key at most two ranges of queries. So a
plan is a short table of tiles, and no key is gathered, copied or masked out. The kernels are in
`window_attention_kernels.py`; needs Triton.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor

from helix4d.model.device import upload
from helix4d.model.networks.frames import FrameLayout, Segment

Range = tuple[int, int]
_EMPTY: Range = (0, 0)
_HOPPER_MAJOR = 9


@dataclass(frozen=True)
class Tiling:
    """Tokens of a kernel's tile, tokens of the other side per step, and the warps and pipeline stages of a tile."""

    tall: int
    step: int
    warps: int
    stages: int


@dataclass(frozen=True)
class Tilings:
    """The tiles of the three kernels."""

    forward: Tiling
    query: Tiling
    key: Tiling


# The largest that fit into registers without spills at 128 channels per head. Shared memory delivers 128 bytes a cycle;
# on sm_90 the product of queries and keys at full rate reads 192 with a step of 32, 128 with 64 and 96 with 128.
HOPPER = Tilings(forward=Tiling(128, 128, 8, 3), query=Tiling(128, 64, 8, 2), key=Tiling(128, 32, 8, 2))
AMPERE = Tilings(forward=Tiling(128, 64, 8, 3), query=Tiling(128, 32, 8, 2), key=Tiling(128, 16, 8, 2))


@cache
def tilings(device: torch.device) -> Tilings:
    """The tiles for a device: those of sm_90 there, else the smaller ones."""
    is_hopper = device.type == "cuda" and torch.cuda.get_device_capability(device)[0] == _HOPPER_MAJOR
    return HOPPER if is_hopper else AMPERE


@dataclass(frozen=True)
class TwoRanges:
    """The tokens `run` of one side see the tokens `a` and `b` of the other; a cached anchor is `a`, in the cache."""

    run: Range
    a: Range
    b: Range


@dataclass(frozen=True, eq=False)
class WindowPlan:
    """The tiles of one batch on one device, int32 [n, 6] each.

    Attributes:
        forward, query: tiles of queries with ranges of keys, for the output and for the gradient of the queries.
        own: tiles of the batch's keys with ranges of queries.
        cached: tiles of the anchor cache's keys with ranges of queries; empty without a cache.
    """

    forward: Tensor
    query: Tensor
    own: Tensor
    cached: Tensor


def plan_window(
    segments: Sequence[Segment], queries: FrameLayout, keys: FrameLayout, device: torch.device
) -> WindowPlan:
    """Make the tables of the kernels.

    Args:
        segments: from `plan_segments`; their ranges count in `keys`.
        queries, keys: layouts. If `queries` starts after frame 0, frame 0 of each clip of `keys` is in a cache.
        device: where the tables go.

    Raises:
        ValueError: for a pattern that shows a query or a key more ranges than the kernels take.
    """
    if keys.first_frame < queries.first_frame:
        seen = [_in_place(segment, queries, keys) for segment in segments]
        own = transpose([(s.run, (s.b,)) for s in seen], queries.tokens)
        cached = transpose([(s.run, (s.a,)) for s in seen], sum(clip[0] for clip in keys.lengths))
    else:
        seen = [_two(segment.query, segment.keys) for segment in segments]
        own, cached = transpose([(s.run, (s.a, s.b)) for s in seen], keys.tokens), []
    sizes = tilings(device)
    return WindowPlan(
        forward=_tiles(seen, sizes.forward.tall, device),
        query=_tiles(seen, sizes.query.tall, device),
        own=_tiles(own, sizes.key.tall, device),
        cached=_tiles(cached, sizes.key.tall, device),
    )


def transpose(seen: Sequence[tuple[Range, Sequence[Range]]], tokens: int) -> list[TwoRanges]:
    """Turn "this run of queries sees these keys" into "these keys are seen by those queries", for all `tokens` keys."""
    cuts = sorted({0, tokens, *(edge for _, ranges in seen for r in ranges if r[0] < r[1] for edge in r)})
    found: list[TwoRanges] = []
    for start, end in pairwise(cuts):
        queries: list[Range] = []
        for run, ranges in seen:
            if any(low <= start and end <= high for low, high in ranges):
                if queries and queries[-1][1] == run[0]:
                    queries[-1] = (queries[-1][0], run[1])
                else:
                    queries.append(run)
        found.append(_two((start, end), queries))
    return found


def window_attend(
    q: Tensor, k: Tensor, v: Tensor, plan: WindowPlan, cache: tuple[Tensor, Tensor] | None = None
) -> Tensor:
    """Attend with q [L, H, d] to the batch's own k and v [S, H, d] and the cached anchor's [S₀, H, d]: [L, H, d].

    Differentiable. The last axis of each must be contiguous; the others may have any strides.
    """
    k_cached, v_cached = (k, v) if cache is None else cache
    out, _ = attention(q, k, v, k_cached, v_cached, plan.forward, plan.query, plan.own, plan.cached)
    return out


@torch.library.custom_op("helix4d::window_attention", mutates_args=())
def attention(
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_cached: Tensor,
    v_cached: Tensor,
    forward: Tensor,
    query: Tensor,
    own: Tensor,
    cached: Tensor,
) -> tuple[Tensor, Tensor]:
    """`window_attend` as an operator of torch, so that checkpointing can keep what it returns: out and lse."""
    from helix4d.model.networks.attention.window_attention_kernels import attend

    out, lse = _empty_results(q)
    if len(forward):
        sources = (q, k_cached, v_cached, k, v)
        attend[len(forward), q.shape[1]](
            *sources, out, lse, forward, len(q), _log2_scale(q), *_strides(*sources, out),
            **_settings(q, tilings(q.device).forward),
        )  # fmt: skip
    return out, lse


@attention.register_fake
def _(q: Tensor, *_rest: Tensor) -> tuple[Tensor, Tensor]:
    return _empty_results(q)


@torch.library.custom_op("helix4d::window_attention_gradients", mutates_args=())
def gradients(
    up: Tensor,
    out: Tensor,
    lse: Tensor,
    q: Tensor,
    k: Tensor,
    v: Tensor,
    k_cached: Tensor,
    v_cached: Tensor,
    query: Tensor,
    own: Tensor,
    cached: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    """The gradients of q, of the own keys and values, and of the cached ones (empty without a cache)."""
    from helix4d.model.networks.attention.window_attention_kernels import key_value_gradients, query_gradient

    up = up if up.stride(-1) == 1 else up.contiguous()
    delta = torch.empty_like(lse)
    scale, factor = _log2_scale(q), 1.0 / math.sqrt(q.shape[-1])
    q_grad, k_grad, v_grad, k_cached_grad, v_cached_grad = _empty_gradients(q, k, v, k_cached, v_cached, cached)
    if len(query):
        sources = (q, up, out, k_cached, v_cached, k, v)
        query_gradient[len(query), q.shape[1]](
            *sources, q_grad, lse, delta, query, len(q), scale, factor, *_strides(*sources, q_grad),
            **_settings(q, tilings(q.device).query),
        )  # fmt: skip
    for tiles, *tensors in ((own, k, v, k_grad, v_grad), (cached, k_cached, v_cached, k_cached_grad, v_cached_grad)):
        if len(tiles):
            key_value_gradients[len(tiles), q.shape[1]](
                q, up, *tensors, lse, delta, tiles, len(q), scale, factor, *_strides(q, up, *tensors),
                **_settings(q, tilings(q.device).key),
            )  # fmt: skip
    return q_grad, k_grad, v_grad, k_cached_grad, v_cached_grad


@gradients.register_fake
def _(
    _up: Tensor, _out: Tensor, _lse: Tensor, q: Tensor, k: Tensor, v: Tensor, k_cached: Tensor, v_cached: Tensor,
    _query: Tensor, _own: Tensor, cached: Tensor,
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:  # fmt: skip
    return _empty_gradients(q, k, v, k_cached, v_cached, cached)


def _setup(ctx: Any, inputs: tuple[Tensor, ...], output: tuple[Tensor, Tensor]) -> None:
    q, k, v, k_cached, v_cached, _, query, own, cached = inputs
    ctx.save_for_backward(*output, q, k, v, k_cached, v_cached, query, own, cached)
    ctx.mark_non_differentiable(output[1])


def _backward(ctx: Any, up: Tensor, _lse_up: Tensor) -> tuple[Tensor | None, ...]:
    saved = ctx.saved_tensors  # checkpointing lets them be read once
    q_grad, k_grad, v_grad, *cached = gradients(up, *saved)
    has_cache = len(saved[-1]) > 0
    return q_grad, k_grad, v_grad, *(cached if has_cache else (None, None)), None, None, None, None


attention.register_autograd(_backward, setup_context=_setup)


def _empty_results(q: Tensor) -> tuple[Tensor, Tensor]:
    out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
    return out, torch.empty(q.shape[1], q.shape[0], dtype=torch.float32, device=q.device)


def _empty_gradients(
    q: Tensor, k: Tensor, v: Tensor, k_cached: Tensor, v_cached: Tensor, cached: Tensor
) -> tuple[Tensor, Tensor, Tensor, Tensor, Tensor]:
    kept = len(k_cached) if len(cached) else 0
    return (
        torch.empty(q.shape, dtype=q.dtype, device=q.device),
        torch.empty(k.shape, dtype=k.dtype, device=k.device),
        torch.empty(v.shape, dtype=v.dtype, device=v.device),
        torch.empty((kept, *k.shape[1:]), dtype=k_cached.dtype, device=k.device),
        torch.empty((kept, *v.shape[1:]), dtype=v_cached.dtype, device=v.device),
    )


def _two(run: Range, ranges: Sequence[Range]) -> TwoRanges:
    if len(ranges) > 2:
        raise ValueError(f"tokens {run[0]} to {run[1]} see {len(ranges)} ranges: the kernels take two")
    a, b = (*ranges, _EMPTY, _EMPTY)[:2]
    return TwoRanges(run, a, b)


def _in_place(segment: Segment, queries: FrameLayout, keys: FrameLayout) -> TwoRanges:
    """The segment with its range in the cache as `a` and its range in the batch as `b`."""
    cached: list[Range] = []
    own: list[Range] = []
    for start, end in segment.keys:
        for low, high, shift, is_cached in _parts(queries, keys):
            inside = (max(start, low), min(end, high))
            if inside[0] < inside[1]:
                (cached if is_cached else own).append((inside[0] + shift, inside[1] + shift))
    if len(cached) > 1 or len(own) > 1:
        raise ValueError(
            f"queries {segment.query} see {len(cached)} cached and {len(own)} own ranges: the kernels take one of each"
        )
    return TwoRanges(segment.query, *(cached or [_EMPTY]), *(own or [_EMPTY]))


def _parts(queries: FrameLayout, keys: FrameLayout) -> Iterator[tuple[int, int, int, bool]]:
    """The cached and the own keys of each clip: range in `keys`, shift to their own tensor, and which of both."""
    start = cached = own = 0
    for clip, here in zip(keys.lengths, queries.lengths, strict=True):
        middle, end = start + clip[0], start + sum(clip)
        yield start, middle, cached - start, True
        yield middle, end, own - middle, False
        start, cached, own = end, cached + clip[0], own + sum(here)


def _tiles(runs: Sequence[TwoRanges], tall: int, device: torch.device) -> Tensor:
    table = [
        (first, min(first + tall, ranges.run[1]), *ranges.a, *ranges.b)
        for ranges in runs
        for first in range(*ranges.run, tall)
    ]
    return upload(table, torch.int32, device).reshape(-1, 6)


def _strides(*tensors: Tensor) -> list[int]:
    for tensor in tensors:
        if tensor.stride(-1) != 1:
            raise ValueError(f"strides {tensor.stride()}: the last axis must be contiguous")
    return [stride for tensor in tensors for stride in tensor.stride()[:2]]


def _log2_scale(q: Tensor) -> float:
    return math.log2(math.e) / math.sqrt(q.shape[-1])


def _settings(q: Tensor, tiling: Tiling) -> dict[str, Any]:
    size = q.shape[-1]
    return {
        "tall": tiling.tall,
        "step": tiling.step,
        "size": size,
        "width": max(16, 1 << (size - 1).bit_length()),
        "exact": "ieee" if q.dtype == torch.float32 else "tf32",
        "num_warps": tiling.warps,
        "num_stages": tiling.stages,
    }
