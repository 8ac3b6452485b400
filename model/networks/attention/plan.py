"""Exact attention under a frame mask that is never materialized, with four backends.

`per_frame`: one scaled-dot-product call per group of frames with the same keys; runs on any device. `varlen`:
variable-length flash attention over gathered keys. `flex`: FlexAttention with a block-sparse mask derived from frame
boundaries; copies no keys but recompiles when shapes change. `window`: Triton kernels of this project, which read the
window and the anchor in place. `choice.py` chooses between them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from functools import cache, cached_property
from itertools import accumulate
from typing import Any, cast

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.autograd.function import once_differentiable

from helix4d.core import ConfigError
from helix4d.model.device import own_compile_cache, upload
from helix4d.model.networks.attention.block_mask import block_mask
from helix4d.model.networks.attention.window_attention import WindowPlan, plan_window, window_attend
from helix4d.model.networks.config import VideoConfig
from helix4d.model.networks.frames import FrameLayout, Segment, plan_conditioning, plan_segments


class AttentionBackend(StrEnum):
    """How the same attention is computed. `AUTO`, for networks only: the fastest on this device, by measurement."""

    AUTO = "auto"
    PER_FRAME = "per_frame"
    FLEX = "flex"
    VARLEN = "varlen"
    WINDOW = "window"


@dataclass(eq=False)
class AttentionPlan:
    """Which queries attend to which keys, and the backend; built once per batch and used by every block.

    Not frozen: torch 2.11 compiles a guard for every field of a frozen dataclass that traced code sees, down to the
    ranges of each segment, and so would recompile the blocks for every batch.
    """

    segments: tuple[Segment, ...]
    queries: FrameLayout
    keys: FrameLayout
    video: VideoConfig | None = None
    backend: AttentionBackend = AttentionBackend.PER_FRAME

    def __post_init__(self) -> None:
        if self.backend is AttentionBackend.AUTO:
            raise ConfigError("a plan needs a backend: choose one with attention.choice.resolve")

    @torch.compiler.disable  # ranges are plain integers: each new batch would trigger a recompilation
    def attend(self, q: Tensor, k: Tensor, v: Tensor, anchor: tuple[Tensor, Tensor] | None = None) -> Tensor:
        """Attend from q [L, H, d] to k and v [S, H, d]: [L, H, d].

        If the plan `reads_in_place`, the cached keys and values of frame 0 are given as `anchor`, else they are in k
        and v, before each clip's own.
        """
        self._cache["running"] = True
        try:
            return self._attend(q, k, v, anchor)
        finally:
            self._cache["running"] = False

    @property
    def running(self) -> bool:
        """Whether `attend` is running; lets checkpointing distinguish self-attention kernels from cross-attention's."""
        return bool(self._cache.get("running", False))

    @property
    def reads_in_place(self) -> bool:
        """Whether the anchor's cache is read where it is, instead of being joined with the keys of the batch."""
        return self.backend is AttentionBackend.WINDOW

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, anchor: tuple[Tensor, Tensor] | None) -> Tensor:
        if self.backend is AttentionBackend.WINDOW:
            return window_attend(q, k, v, self._window_plan(q.device), anchor)
        if self.backend is AttentionBackend.FLEX:
            return flex_attend(q, k, v, self._block_mask(q.device))
        if self.backend is AttentionBackend.VARLEN:
            return varlen_attend(q, k, v, self.segments, self._varlen_lengths(q.device))
        return per_frame_attend(q, k, v, self.segments)

    @cached_property
    def _cache(self) -> dict[Any, Any]:
        return {}

    def _block_mask(self, device: torch.device) -> Any:
        if self.video is None:
            raise ConfigError("flex attention supports only self-attention: use per_frame or varlen")
        if ("flex", device) not in self._cache:
            self._cache["flex", device] = block_mask(self.queries, self.keys, self.video, device)
        return self._cache["flex", device]

    def _window_plan(self, device: torch.device) -> WindowPlan:
        if ("window", device) not in self._cache:
            self._cache["window", device] = plan_window(self.segments, self.queries, self.keys, device)
        plan: WindowPlan = self._cache["window", device]
        return plan

    def _varlen_lengths(self, device: torch.device) -> VarlenLengths:
        if ("varlen", device) not in self._cache:
            self._cache["varlen", device] = VarlenLengths.from_segments(self.segments, device)
        lengths: VarlenLengths = self._cache["varlen", device]
        return lengths


def plan_self_attention(
    queries: FrameLayout,
    keys: FrameLayout,
    video: VideoConfig,
    backend: AttentionBackend = AttentionBackend.PER_FRAME,
) -> AttentionPlan:
    """Plan attention between the frames of each clip, in the pattern of `video`."""
    return AttentionPlan(plan_segments(queries, keys, video), queries, keys, video, backend)


def plan_cross_attention(
    layout: FrameLayout, cond_tokens: int, backend: AttentionBackend = AttentionBackend.PER_FRAME
) -> AttentionPlan:
    """Plan attention from each frame to the tokens of its own image; per_frame and varlen support it."""
    keys = FrameLayout(((cond_tokens,) * layout.frames,))
    return AttentionPlan(plan_conditioning(layout, cond_tokens), layout, keys, None, backend)


def per_frame_attend(q: Tensor, k: Tensor, v: Tensor, segments: tuple[Segment, ...]) -> Tensor:
    """Attend segment by segment: q [L, H, d], k and v [S, H, d] to [L, H, d]. Segments cover the queries in order."""
    if not segments:
        return q * 0  # no tokens: keep the shape and the autograd graph
    if (batch := _as_batch(segments, len(q), len(k))) is not None:
        return _sdpa(*(x.unflatten(0, (batch, -1)) for x in (q, k, v))).flatten(0, 1)
    parts = zip(
        q.split([s.query[1] - s.query[0] for s in segments]),
        _Ranges.apply(k, segments),
        _Ranges.apply(v, segments),
        strict=True,
    )
    return torch.cat([_sdpa(*(x[None] for x in part))[0] for part in parts])


def flex_attend(q: Tensor, k: Tensor, v: Tensor, mask: Any) -> Tensor:
    """Run FlexAttention with a block mask; compiled on CUDA, eager elsewhere (small sizes only)."""
    attention = _flex(compiled=q.is_cuda)
    out: Tensor = attention(*(x.transpose(0, 1)[None] for x in (q, k, v)), block_mask=mask)
    return out[0].transpose(0, 1)


def varlen_attend(q: Tensor, k: Tensor, v: Tensor, segments: tuple[Segment, ...], lengths: VarlenLengths) -> Tensor:
    """Run variable-length flash attention over gathered keys: one kernel for all segments, keys copied."""
    from torch.nn.attention import varlen

    if not segments:
        return q * 0
    keys, values = torch.cat(_Ranges.apply(k, segments)), torch.cat(_Ranges.apply(v, segments))
    out = varlen.varlen_attn(
        q, keys, values, lengths.cu_queries, lengths.cu_keys, lengths.max_queries, lengths.max_keys
    )
    if not isinstance(out, Tensor):
        raise TypeError("varlen_attn returned more than one output")
    return out


@dataclass(frozen=True)
class VarlenLengths:
    """Cumulative lengths of the segments' queries and keys, int32 [segments + 1] from zero, and the maximum lengths."""

    cu_queries: Tensor
    cu_keys: Tensor
    max_queries: int
    max_keys: int

    @classmethod
    def from_segments(cls, segments: tuple[Segment, ...], device: torch.device) -> VarlenLengths:
        """Compute the lengths as tensors on `device`."""
        queries = [s.query[1] - s.query[0] for s in segments]
        keys = [s.key_tokens for s in segments]
        return cls(
            _cumulative(queries, device), _cumulative(keys, device), max(queries, default=0), max(keys, default=0)
        )


def _sdpa(q: Tensor, k: Tensor, v: Tensor) -> Tensor:
    """Attend from q [B, L, H, d] to k and v [B, S, H, d]: [B, L, H, d]."""
    q, k, v = (x.transpose(1, 2) for x in (q, k, v))
    return F.scaled_dot_product_attention(q, k, v).transpose(1, 2)


class _Ranges(torch.autograd.Function):
    """Gather the keys of each segment [K, H, d]: a view of a single range, a copy of several.

    With plain slices, each would allocate a gradient as large as all keys in the backward pass; here the gradients of
    all segments accumulate in one buffer.
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, segments: tuple[Segment, ...]) -> tuple[Tensor, ...]:
        ctx.segments, ctx.shape = segments, x.shape
        parts = ([x[start:end] for start, end in segment.keys] for segment in segments)
        return tuple(part[0] if len(part) == 1 else torch.cat(part) for part in parts)

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, *grads: Tensor) -> tuple[Tensor, None]:
        dtype = torch.float64 if grads[0].dtype == torch.float64 else torch.float32
        total = torch.zeros(ctx.shape, dtype=dtype, device=grads[0].device)
        for segment, grad in zip(ctx.segments, grads, strict=True):
            offset = 0
            for start, end in segment.keys:
                total[start:end] += grad[offset : offset + end - start]
                offset += end - start
        return total.to(grads[0].dtype), None


def _as_batch(segments: tuple[Segment, ...], queries: int, keys: int) -> int | None:
    """Return the batch size if the segments split queries and keys into equal consecutive pieces, else None."""
    count = len(segments)
    if queries % count or keys % count:
        return None
    length, width = queries // count, keys // count
    for i, segment in enumerate(segments):
        if segment.query != (i * length, (i + 1) * length) or segment.keys != ((i * width, (i + 1) * width),):
            return None
    return count


def _cumulative(lengths: list[int], device: torch.device) -> Tensor:
    return upload([0, *accumulate(lengths)], torch.int32, device)


@cache
def _flex(compiled: bool) -> Callable[..., Any]:
    from torch.nn.attention.flex_attention import flex_attention

    if compiled:
        own_compile_cache()
    return cast("Callable[..., Any]", torch.compile(flex_attention) if compiled else flex_attention)
