"""The parts of a block between its matrix products: modulated normalization, query-key normalization, gated residual.

Each exists in plain torch, for any device and type, and as one Triton kernel that reads and writes every token once.
`served_by_kernels` chooses between them. The kernels compute in float32 and round once, the plain versions round
16-bit dtypes after every step.
"""

from __future__ import annotations

import importlib.util
import math
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from helix4d.model.device import upload
from helix4d.model.networks.frames import FrameLayout
from helix4d.model.networks.layers import upcast
from helix4d.model.networks.pointwise import ops
from helix4d.model.networks.rope import apply_rotary

TYPES = (torch.float32, torch.float16, torch.bfloat16)
_TRITON = importlib.util.find_spec("triton") is not None
_assumed: ContextVar[bool] = ContextVar("assume_kernels", default=False)


@dataclass(frozen=True, eq=False)
class TokenFrames:
    """Which frame each token of a packed batch belongs to, on one device.

    Attributes:
        rows: int64 [L], frame row of each token.
        tiles: int32 [n, 3], first token, end and frame of runs of at most `ops.TILE` tokens of one frame.
        counts: int64 [F], number of tiles of each frame.
    """

    rows: Tensor
    tiles: Tensor
    counts: Tensor

    @classmethod
    def from_layout(cls, layout: FrameLayout, device: torch.device) -> TokenFrames:
        """Build the tables on `device`, which is given only the lengths of the frames."""
        lengths = [count for clip in layout.lengths for count in clip]
        whole = [-(-count // ops.TILE) for count in lengths]
        counts = upload(whole, torch.int64, device)
        frame = torch.repeat_interleave(torch.arange(layout.frames, device=device), counts, output_size=sum(whole))
        offsets = upload(layout.offsets, torch.int64, device)
        place = torch.arange(sum(whole), device=device) - (counts.cumsum(0) - counts)[frame]
        first = offsets[frame] + ops.TILE * place
        end = torch.minimum(first + ops.TILE, offsets[frame + 1])
        return cls(layout.token_frames(device), torch.stack([first, end, frame], dim=1).int(), counts)


def served_by_kernels(x: Tensor) -> bool:
    """Whether the Triton kernels run on x: on a CUDA GPU, in float32, float16 or bfloat16."""
    return x.dtype in TYPES and (_assumed.get() or (x.is_cuda and _TRITON))


@contextmanager
def assume_kernels() -> Iterator[None]:
    """Use the kernels' code path on any device, for fake tensors that represent GPU tensors."""
    token = _assumed.set(True)
    try:
        yield
    finally:
        _assumed.reset(token)


def modulated_norm(x: Tensor, scale: Tensor, shift: Tensor, frames: TokenFrames, eps: float) -> Tensor:
    """Layer normalization of x [L, C] times (1 + scale), plus shift, both [F, C], by frame: [L, C] in the type of x."""
    if served_by_kernels(x):
        return ops.modulated_norm(x, scale, shift, frames.tiles, frames.counts, eps, 1.0)
    normal = F.layer_norm(upcast(x), x.shape[-1:], eps=eps).to(x.dtype)
    return normal * (1 + scale.to(x.dtype)[frames.rows]) + shift.to(x.dtype)[frames.rows]


def affine_norm(x: Tensor, weight: Tensor, bias: Tensor, frames: TokenFrames, eps: float) -> Tensor:
    """Layer normalization of x [L, C] times weight, plus bias, both [C]: [L, C] in the type of x."""
    if served_by_kernels(x):
        scale, shift = (upcast(y).expand(len(frames.counts), -1) for y in (weight, bias))
        return ops.modulated_norm(x, scale, shift, frames.tiles, frames.counts, eps, 0.0)
    wide = upcast(x)
    return F.layer_norm(wide, x.shape[-1:], weight.to(wide.dtype), bias.to(wide.dtype), eps).to(x.dtype)


def rms_norm_rotary(x: Tensor, gamma: Tensor, rotary: tuple[Tensor, Tensor] | None = None) -> Tensor:
    """x / |x| · gamma · √d per head, in float32, then the rotary embedding (as in TRELLIS.2).

    Args:
        x: [L, H, d]; tokens and heads may have any strides, so a part of a fused projection is read in place.
        gamma: [H, d].
        rotary: cosines and sines, float32 [L, d/2], or None for cross-attention.

    Returns:
        [L, H, d] in the type of x.
    """
    if served_by_kernels(x):
        return ops.rms_norm_rotary(x, gamma, *(rotary or (None, None)))
    wide = upcast(x)
    y = F.normalize(wide, dim=-1) * gamma.to(wide.dtype) * math.sqrt(x.shape[-1])
    return (y if rotary is None else apply_rotary(y, *rotary)).to(x.dtype)


def gated_residual(x: Tensor, h: Tensor, gate: Tensor, frames: TokenFrames) -> Tensor:
    """x + h · gate, with x and h [L, C] and one gate per frame [F, C]: [L, C] in the type of x."""
    if served_by_kernels(x):
        return ops.gated_residual(x, h, gate, frames.tiles, frames.counts)
    return x + h * gate.to(x.dtype)[frames.rows]
