"""Wrap networks as velocities for the sampler, for single frames or for a video with its clean anchor.

Both guidance passes use the same anchor latent; the condition of frame 0 is kept or zeroed with the pass, so there are
two key/value caches. The sampled tensor excludes frame 0: the anchor is never updated and enters no statistic.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.flow import AnchorCache, DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor, concatenate


@dataclass(frozen=True)
class PassVelocity:
    """A `Velocity` whose two guidance passes may run as one batch.

    Attributes:
        run: function of x, 1000 t and the passes (True: conditional) that returns one velocity per pass.
        batched: whether `both` calls the network once: twice the activations, but the weights are read once.
    """

    run: Callable[[Tensor, float, tuple[bool, ...]], list[Tensor]]
    batched: bool = False

    def __call__(self, x: Tensor, timestep: float, conditional: bool) -> Tensor:
        """Run one pass."""
        return self.run(x, timestep, (conditional,))[0]

    def both(self, x: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
        """Run the conditional and the unconditional pass."""
        if not self.batched:
            return self(x, timestep, True), self(x, timestep, False)
        positive, negative = self.run(x, timestep, (True, False))
        return positive, negative


def dense_velocity(network: DenseFlow, cond: Tensor, batched: bool = False) -> PassVelocity:
    """Velocity of single frames [F, C, R, R, R], each conditioned on its own image tokens [F, M, C']."""

    def run(x: Tensor, timestep: float, passes: tuple[bool, ...]) -> list[Tensor]:
        batch = x.repeat(len(passes), 1, 1, 1, 1)
        out = network(batch, _times(x, len(batch), timestep), _conditions(cond, passes))
        return list(out.chunk(len(passes)))

    return PassVelocity(run, batched)


def sparse_velocity(
    network: SparseFlow, layout: SparseLayout, cond: Tensor, side: Tensor | None = None, batched: bool = False
) -> PassVelocity:
    """Velocity of single frames, packed as features [L, C] on `layout`."""
    layouts = _Layouts(layout)

    def run(x: Tensor, timestep: float, passes: tuple[bool, ...]) -> list[Tensor]:
        count = len(passes)
        times = _times(x, count * layout.batch_size, timestep)
        sides = None if side is None else side.repeat(count, 1)
        batch = SparseTensor(x.repeat(count, 1), layouts.times(count))
        return list(network(batch, times, _conditions(cond, passes), side=sides).feats.chunk(count))

    return PassVelocity(run, batched)


def anchored_dense_velocity(
    network: DenseFlow, anchor: Tensor, cond: Tensor, use_cache: bool | None = None, batched: bool = False
) -> PassVelocity:
    """Velocity of frames 1 to T − 1 of one clip, [T − 1, C, R, R, R].

    Args:
        network: flow with its `VideoConfig`.
        anchor: clean latent of frame 0, [C, R, R, R].
        cond: image tokens of all frames, [T, M, C'].
        use_cache: whether to compute the anchor's keys and values once for all steps; by default if the pattern allows.
        batched: whether to run both guidance passes as one batch.
    """
    cached = _use_cache(network, use_cache)

    @cache
    def anchor_cache(passes: tuple[bool, ...]) -> AnchorCache:
        return network.anchor_cache(torch.stack([anchor] * len(passes)), _conditions(cond[:1], passes))

    def run(x: Tensor, timestep: float, passes: tuple[bool, ...]) -> list[Tensor]:
        count = len(passes)
        if cached:
            conditions, times = _conditions(cond[1:], passes), _times(x, count * len(x), timestep)
            batch, clips = x.repeat(count, 1, 1, 1, 1), (len(x),) * count
            return list(network(batch, times, conditions, clips=clips, anchor=anchor_cache(passes)).chunk(count))
        clip = torch.cat([anchor[None].to(x.dtype), x])
        times = _with_zero(_times(x, len(x), timestep)).repeat(count)
        out = network(clip.repeat(count, 1, 1, 1, 1), times, _conditions(cond, passes), clips=(len(clip),) * count)
        return [part[1:] for part in out.chunk(count)]

    return PassVelocity(run, batched)


@dataclass(frozen=True)
class SparseAnchor:
    """Clean normalized latent of frame 0 on its own voxels (one sample), and its side input in the material stage."""

    latent: SparseTensor
    side: Tensor | None = None


def anchored_sparse_velocity(
    network: SparseFlow,
    anchor: SparseAnchor,
    layout: SparseLayout,
    cond: Tensor,
    side: Tensor | None = None,
    use_cache: bool | None = None,
    batched: bool = False,
) -> PassVelocity:
    """Velocity of frames 1 to T − 1 of one clip, packed as features [L, C] on `layout` (one sample per frame).

    Args:
        network: flow with its `VideoConfig`.
        anchor: frame 0.
        layout: voxels of the other frames; frames may be empty.
        cond: image tokens of all frames, [T, M, C'].
        side: [L, C'], side input of the material stage; the anchor must then have one too.
        use_cache: whether to compute the anchor's keys and values once for all steps; by default if the pattern allows.
        batched: whether to run both guidance passes as one batch.
    """
    if (side is None) != (anchor.side is None):
        raise ConfigError("the anchor and the other frames must both have a side input, or neither")
    cached = _use_cache(network, use_cache)
    frames, anchor_tokens = layout.batch_size, len(anchor.latent.layout)
    clean = anchor.latent
    moving = _Layouts(layout)
    clip = _Layouts(concatenate([_bare(clean.layout), _bare(layout)]).layout)
    clip_side = None if side is None or anchor.side is None else torch.cat([anchor.side, side])

    @cache
    def anchor_cache(passes: tuple[bool, ...]) -> AnchorCache:
        sides = None if anchor.side is None else anchor.side.repeat(len(passes), 1)
        return network.anchor_cache(concatenate([clean] * len(passes)), _conditions(cond[:1], passes), sides)

    def run(x: Tensor, timestep: float, passes: tuple[bool, ...]) -> list[Tensor]:
        count = len(passes)
        times = _times(x, frames, timestep)
        if cached:
            batch = SparseTensor(x.repeat(count, 1), moving.times(count))
            out = network(
                batch,
                times.repeat(count),
                _conditions(cond[1:], passes),
                clips=(frames,) * count,
                side=None if side is None else side.repeat(count, 1),
                anchor=anchor_cache(passes),
            )
            return list(out.feats.chunk(count))
        feats = torch.cat([clean.feats.to(x.dtype), x])
        out = network(
            SparseTensor(feats.repeat(count, 1), clip.times(count)),
            _with_zero(times).repeat(count),
            _conditions(cond, passes),
            clips=(frames + 1,) * count,
            side=None if clip_side is None else clip_side.repeat(count, 1),
        )
        return [part[anchor_tokens:] for part in out.feats.chunk(count)]

    return PassVelocity(run, batched)


class _Layouts:
    """A layout and its cached repetitions."""

    def __init__(self, layout: SparseLayout) -> None:
        self._repeated = {1: layout}

    def times(self, count: int) -> SparseLayout:
        if count not in self._repeated:
            self._repeated[count] = concatenate([_bare(self._repeated[1])] * count).layout
        return self._repeated[count]


def _use_cache(network: DenseFlow | SparseFlow, requested: bool | None) -> bool:
    if requested and not network.video.anchor_sees_only_itself:
        raise ConfigError(f"the anchor cannot be cached: in pattern {network.video.pattern} it attends to noisy frames")
    return network.video.anchor_sees_only_itself if requested is None else requested


def _bare(layout: SparseLayout) -> SparseTensor:
    return SparseTensor(layout.coords.new_zeros(len(layout), 0, dtype=torch.float32), layout)


def _conditions(cond: Tensor, passes: tuple[bool, ...]) -> Tensor:
    return torch.cat([cond if conditional else torch.zeros_like(cond) for conditional in passes])


def _times(x: Tensor, frames: int, timestep: float) -> Tensor:
    return torch.full((frames,), timestep, dtype=torch.float32, device=x.device)


def _with_zero(times: Tensor) -> Tensor:
    return torch.cat([times.new_zeros(1), times])
