"""Wrap networks as velocities for the sampler, for single frames or for a video with its clean anchor.

Both guidance passes use the same anchor latent; the condition of frame 0 is kept or zeroed with the pass, so there are
two key/value caches. The sampled tensor excludes frame 0: the anchor is never updated and enters no statistic.
Everything that no step changes is made once, so that a pass can be captured in a CUDA graph.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cache

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.blocks import TokenContext
from helix4d.model.networks.flow import AnchorCache, DenseFlow, SparseFlow
from helix4d.model.networks.sparse import SparseLayout, SparseTensor, concatenate
from helix4d.model.sampling.graphs import GraphedPasses, Passes, Run

BOTH: Passes = (True, False)


@dataclass(frozen=True)
class PassVelocity:
    """A `Velocity` whose two guidance passes may run as one batch.

    Attributes:
        run: function of x, 1000 t as a float32 scalar on its device, and the passes that returns one velocity per pass.
        batched: whether `both` calls the network once: twice the activations, but the weights are read once.
    """

    run: Run
    batched: bool = False

    def __call__(self, x: Tensor, timestep: float, conditional: bool) -> Tensor:
        """Run one pass."""
        return self._run(x, timestep, (conditional,))[0]

    def both(self, x: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
        """Run the conditional and the unconditional pass."""
        if not self.batched:
            return self(x, timestep, True), self(x, timestep, False)
        positive, negative = self._run(x, timestep, BOTH)
        return positive, negative

    def graphed(self) -> PassVelocity:
        """Return the same velocity, replayed from CUDA graphs after the first pass of a kind."""
        return PassVelocity(GraphedPasses(self.run), self.batched)

    def _run(self, x: Tensor, timestep: float, passes: Passes) -> list[Tensor]:
        return self.run(x, torch.full((), timestep, dtype=torch.float32, device=x.device), passes)


def dense_velocity(network: DenseFlow, cond: Tensor, batched: bool = False) -> PassVelocity:
    """Velocity of single frames [F, C, R, R, R], each conditioned on its own image tokens [F, M, C']."""
    conditions = _Conditions(cond)

    @cache
    def context(count: int) -> TokenContext:
        return network.context(count * len(cond), cond.shape[1], cond.device)

    def run(x: Tensor, timestep: Tensor, passes: Passes) -> list[Tensor]:
        count = len(passes)
        batch = x.repeat(count, 1, 1, 1, 1)
        out = network(batch, timestep.expand(len(batch)), conditions.of(passes), context=context(count))
        return list(out.chunk(count))

    return PassVelocity(run, batched)


def sparse_velocity(
    network: SparseFlow, layout: SparseLayout, cond: Tensor, side: Tensor | None = None, batched: bool = False
) -> PassVelocity:
    """Velocity of single frames, packed as features [L, C] on `layout`."""
    layouts, conditions = _Layouts(layout), _Conditions(cond)

    @cache
    def context(count: int) -> TokenContext:
        return network.context(layouts.times(count), cond.shape[1])

    def run(x: Tensor, timestep: Tensor, passes: Passes) -> list[Tensor]:
        count = len(passes)
        times = timestep.expand(count * layout.batch_size)
        batch = SparseTensor(x.repeat(count, 1), layouts.times(count))
        sides = None if side is None else side.repeat(count, 1)
        out = network(batch, times, conditions.of(passes), side=sides, context=context(count))
        return list(out.feats.chunk(count))

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
    frames, image_tokens = len(cond) - 1, cond.shape[1]
    first, rest, conditions = _Conditions(cond[:1]), _Conditions(cond[1:]), _Conditions(cond)
    anchors = _Anchors(lambda passes: network.anchor_cache(torch.stack([anchor] * len(passes)), first.of(passes)))

    @cache
    def context(passes: Passes) -> TokenContext:
        count = len(passes)
        if cached:
            clips = (frames,) * count
            return network.context(count * frames, image_tokens, cond.device, clips, anchors.of(passes))
        return network.context(count * (frames + 1), image_tokens, cond.device, (frames + 1,) * count)

    def run(x: Tensor, timestep: Tensor, passes: Passes) -> list[Tensor]:
        count = len(passes)
        times = timestep.expand(frames)
        if cached:
            batch = x.repeat(count, 1, 1, 1, 1)
            given, prepared = anchors.of(passes), context(passes)
            return list(
                network(batch, times.repeat(count), rest.of(passes), anchor=given, context=prepared).chunk(count)
            )
        clip = torch.cat([anchor[None].to(x.dtype), x]).repeat(count, 1, 1, 1, 1)
        out = network(clip, _with_zero(times).repeat(count), conditions.of(passes), context=context(passes))
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
    frames, anchor_tokens, image_tokens = layout.batch_size, len(anchor.latent.layout), cond.shape[1]
    clean = anchor.latent
    moving = _Layouts(layout)
    clip = _Layouts(concatenate([_bare(clean.layout), _bare(layout)]).layout)
    clip_side = None if side is None or anchor.side is None else torch.cat([anchor.side, side])
    first, rest, conditions = _Conditions(cond[:1]), _Conditions(cond[1:]), _Conditions(cond)

    def anchor_cache(passes: Passes) -> AnchorCache:
        sides = None if anchor.side is None else anchor.side.repeat(len(passes), 1)
        return network.anchor_cache(concatenate([clean] * len(passes)), first.of(passes), sides)

    anchors = _Anchors(anchor_cache)

    @cache
    def context(passes: Passes) -> TokenContext:
        count = len(passes)
        if cached:
            return network.context(moving.times(count), image_tokens, (frames,) * count, anchors.of(passes))
        return network.context(clip.times(count), image_tokens, (frames + 1,) * count)

    def run(x: Tensor, timestep: Tensor, passes: Passes) -> list[Tensor]:
        count = len(passes)
        times = timestep.expand(frames)
        if cached:
            out = network(
                SparseTensor(x.repeat(count, 1), moving.times(count)),
                times.repeat(count),
                rest.of(passes),
                side=None if side is None else side.repeat(count, 1),
                anchor=anchors.of(passes),
                context=context(passes),
            )
            return list(out.feats.chunk(count))
        feats = torch.cat([clean.feats.to(x.dtype), x])
        out = network(
            SparseTensor(feats.repeat(count, 1), clip.times(count)),
            _with_zero(times).repeat(count),
            conditions.of(passes),
            side=None if clip_side is None else clip_side.repeat(count, 1),
            context=context(passes),
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


class _Conditions:
    """Image tokens [F, M, C'] as the passes see them, [passes · F, M, C']; an unconditional pass sees zeros."""

    def __init__(self, cond: Tensor) -> None:
        self._made: dict[Passes, Tensor] = {(True,): cond}

    def of(self, passes: Passes) -> Tensor:
        if passes not in self._made:
            cond = self._made[True,]
            self._made[passes] = torch.cat([cond if conditional else torch.zeros_like(cond) for conditional in passes])
        return self._made[passes]


class _Anchors:
    """Anchor caches of one pass or `BOTH`; a single pass reads its part of the joint cache, if that exists."""

    def __init__(self, make: Callable[[Passes], AnchorCache]) -> None:
        self._make = make
        self._made: dict[Passes, AnchorCache] = {}

    def of(self, passes: Passes) -> AnchorCache:
        if passes not in self._made:
            joint = self._made.get(BOTH)
            self._made[passes] = self._make(passes) if joint is None else joint.clip(BOTH.index(passes[0]))
        return self._made[passes]


def _use_cache(network: DenseFlow | SparseFlow, requested: bool | None) -> bool:
    if requested and not network.video.anchor_sees_only_itself:
        raise ConfigError(f"the anchor cannot be cached: in pattern {network.video.pattern} it attends to noisy frames")
    return network.video.anchor_sees_only_itself if requested is None else requested


def _bare(layout: SparseLayout) -> SparseTensor:
    return SparseTensor(layout.coords.new_zeros(len(layout), 0, dtype=torch.float32), layout)


def _with_zero(times: Tensor) -> Tensor:
    return torch.cat([times.new_zeros(1), times])
