"""Networks as the velocities that the sampler follows: alone on single frames, or on a video with its clean anchor.

Under guidance both passes see the same anchor latent; the condition of frame 0 is kept or zeroed with its pass, so
there are two key/value caches. The tensor that the sampler moves has no frame 0: the anchor is never updated, and no
statistic counts it.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor

from core import ConfigError
from model.flow import AnchorCache, DenseFlow, SparseFlow
from model.sampler import Velocity
from model.sparse import SparseLayout, SparseTensor, concatenate


def dense_velocity(network: DenseFlow, cond: Tensor) -> Velocity:
    """Single frames [F, C, R, R, R], each under its own image tokens [F, M, C']."""

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        return network(x, _times(x, len(x), timestep), _condition(cond, conditional))

    return velocity


def sparse_velocity(network: SparseFlow, layout: SparseLayout, cond: Tensor, side: Tensor | None = None) -> Velocity:
    """Single frames, packed as features [L, C] on `layout`."""

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        times = _times(x, layout.batch_size, timestep)
        return network(SparseTensor(x, layout), times, _condition(cond, conditional), side=side).feats

    return velocity


def anchored_dense_velocity(
    network: DenseFlow, anchor: Tensor, cond: Tensor, use_cache: bool | None = None
) -> Velocity:
    """Frames 1 … T − 1 of one clip, [T − 1, C, R, R, R].

    Args:
        network: with its `VideoConfig`.
        anchor: frame 0's clean latent [C, R, R, R].
        cond: image tokens of all frames, [T, M, C'].
        use_cache: compute the anchor's keys once for all steps. By default wherever the pattern allows it.
    """
    cached = _use_cache(network, use_cache)
    caches = {c: network.anchor_cache(anchor[None], _condition(cond[:1], c)) for c in _passes(cached)}

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        given, times = _condition(cond, conditional), _times(x, len(x), timestep)
        if cached:
            return network(x, times, given[1:], clips=(len(x),), anchor=caches[conditional])
        whole = torch.cat([anchor[None].to(x.dtype), x])
        return network(whole, _with_zero(times), given, clips=(len(whole),))[1:]

    return velocity


@dataclass(frozen=True)
class SparseAnchor:
    """Frame 0's clean normalized latent on its own voxels (one sample), and what goes beside it in the last stage."""

    latent: SparseTensor
    side: Tensor | None = None


def anchored_sparse_velocity(
    network: SparseFlow,
    anchor: SparseAnchor,
    layout: SparseLayout,
    cond: Tensor,
    side: Tensor | None = None,
    use_cache: bool | None = None,
) -> Velocity:
    """Frames 1 … T − 1 of one clip, packed as features [L, C] on `layout` (one sample a frame).

    Args:
        network: with its `VideoConfig`.
        anchor: frame 0.
        layout: voxels of the other frames; frames may be empty.
        cond: image tokens of all frames, [T, M, C'].
        side: [L, C'] for the material stage, whose anchor then has a side too.
        use_cache: compute the anchor's keys once for all steps. By default wherever the pattern allows it.
    """
    if (side is None) != (anchor.side is None):
        raise ConfigError("either the anchor and the other frames both have a side input, or neither")
    cached = _use_cache(network, use_cache)
    caches: dict[bool, AnchorCache] = {
        c: network.anchor_cache(anchor.latent, _condition(cond[:1], c), anchor.side) for c in _passes(cached)
    }
    frames, anchor_tokens = layout.batch_size, len(anchor.latent.layout)
    whole_side = None if side is None or anchor.side is None else torch.cat([anchor.side, side])

    def velocity(x: Tensor, timestep: float, conditional: bool) -> Tensor:
        given, times = _condition(cond, conditional), _times(x, frames, timestep)
        moving = SparseTensor(x, layout)
        if cached:
            clips, cache = (frames,), caches[conditional]
            return network(moving, times, given[1:], clips=clips, side=side, anchor=cache).feats
        still = anchor.latent.replace(anchor.latent.feats.to(x.dtype))
        whole = concatenate([still, moving])
        out = network(whole, _with_zero(times), given, clips=(frames + 1,), side=whole_side)
        return out.feats[anchor_tokens:]

    return velocity


def _use_cache(network: DenseFlow | SparseFlow, wanted: bool | None) -> bool:
    if wanted and not network.video.anchor_sees_only_itself:
        raise ConfigError(f"{network.video.pattern} lets the anchor see noisy frames: it cannot be cached")
    return network.video.anchor_sees_only_itself if wanted is None else wanted


def _passes(cached: bool) -> tuple[bool, ...]:
    return (True, False) if cached else ()


def _condition(cond: Tensor, conditional: bool) -> Tensor:
    return cond if conditional else torch.zeros_like(cond)


def _times(x: Tensor, frames: int, timestep: float) -> Tensor:
    return torch.full((frames,), timestep, dtype=torch.float32, device=x.device)


def _with_zero(times: Tensor) -> Tensor:
    return torch.cat([times.new_zeros(1), times])
