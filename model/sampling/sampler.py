"""Sampler for the flow, with guidance in an interval of time, guidance rescale and time rescale.

The sampler is independent of frames: it integrates a tensor along a `Velocity`. The anchor, which stays fixed, is
handled by `helix4d.model.sampling.velocities`. TRELLIS.2 takes Euler steps; the multistep solver needs fewer of them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from enum import StrEnum
from itertools import pairwise
from typing import Protocol, runtime_checkable

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.model.networks.flow_matching import SIGMA_MIN, clean_from_velocity, velocity_from_clean

Velocity = Callable[[Tensor, float, bool], Tensor]
"""Maps (x_t, 1000 t, whether to condition) to v of the shape of x_t; unconditional passes use zeros as condition."""


@runtime_checkable
class BothPasses(Protocol):
    """A `Velocity` that can compute both guidance passes in one call."""

    def both(self, x: Tensor, timestep: float) -> tuple[Tensor, Tensor]:
        """Return the conditional and the unconditional velocity."""


Spread = Callable[[Tensor], Tensor]
"""Maps samples to their standard deviations, broadcastable against them."""


class Solver(StrEnum):
    """How a step follows from the velocities; each takes one velocity per step."""

    EULER = "euler"
    """Along the velocity at the step's start, as in TRELLIS.2: the error falls in proportion to the step."""
    MULTISTEP = "multistep"
    """Along a line through this velocity and the one before (Adams-Bashforth of order 2): the error falls with the
    square of the step."""


@dataclass(frozen=True, kw_only=True)
class SamplerConfig:
    """Sampling settings of a stage. The defaults are TRELLIS.2's for the sparse structure."""

    steps: int = 12
    guidance: float = 7.5
    guidance_rescale: float = 0.7
    guidance_interval: tuple[float, float] = (0.6, 1.0)
    rescale_t: float = 5.0
    sigma_min: float = SIGMA_MIN
    solver: Solver = Solver.EULER

    def __post_init__(self) -> None:
        if self.steps < 1:
            raise ConfigError(f"steps is {self.steps}: must be at least 1")
        if self.rescale_t <= 0:
            raise ConfigError(f"rescale_t is {self.rescale_t}: must be positive")
        if not 0 <= self.guidance_rescale <= 1:
            raise ConfigError(f"guidance_rescale is {self.guidance_rescale}: must be between 0 and 1")
        low, high = self.guidance_interval
        if low > high:
            raise ConfigError(f"guidance_interval is {self.guidance_interval}: its lower end exceeds its upper end")

    def guides(self, t: float) -> bool:
        """Return whether the velocity at time `t` needs both passes."""
        low, high = self.guidance_interval
        return self.guidance != 1 and low <= t <= high


STRUCTURE_SAMPLER = SamplerConfig()
SHAPE_SAMPLER = SamplerConfig(guidance_rescale=0.5, rescale_t=3.0)
TEXTURE_SAMPLER = SamplerConfig(guidance=1.0, guidance_rescale=0.0, guidance_interval=(0.6, 0.9), rescale_t=3.0)


@dataclass(frozen=True)
class Step:
    """One sampling step: the state after it, and the data predicted from the state before it."""

    x: Tensor
    predicted: Tensor


@dataclass(frozen=True)
class _Evaluation:
    """A velocity, its time, and whether it was guided."""

    time: float
    velocity: Tensor
    guided: bool


def sample(velocity: Velocity, noise: Tensor, config: SamplerConfig, spread: Spread) -> Tensor:
    """Integrate from noise to a sample of the same shape."""
    x = noise
    for step in sample_steps(velocity, noise, config, spread):
        x = step.x
    return x


@torch.no_grad()
def sample_steps(velocity: Velocity, noise: Tensor, config: SamplerConfig, spread: Spread) -> Iterator[Step]:
    """Like `sample`, but yield every step."""
    x, before = noise, None
    times = schedule(config.steps, config.rescale_t)
    for now, then in pairwise(times):
        v = guided_velocity(velocity, x, now, config, spread)
        predicted = clean_from_velocity(x, v, now, config.sigma_min)
        here = _Evaluation(now, v, config.guides(now))
        x = x - (now - then) * _slope(here, before, then, config.solver)
        before = here
        yield Step(x, predicted)


def _slope(here: _Evaluation, before: _Evaluation | None, then: float, solver: Solver) -> Tensor:
    """Return the mean velocity from `here` to the time `then`.

    The line through two velocities is not extended over the first step, which has none before it; across the ends of
    the guidance interval, where the velocity jumps; and to time 0, where TRELLIS.2's schedules have their longest step
    and the line overshoots.
    """
    if solver is Solver.EULER or before is None or before.guided != here.guided or then == 0:
        return here.velocity
    ratio = (here.time - then) / (before.time - here.time)
    return here.velocity + ratio / 2 * (here.velocity - before.velocity)


def schedule(steps: int, rescale: float) -> list[float]:
    """Return steps + 1 times from 1 to 0, warped by t = r s / (1 + (r − 1) s); r > 1 puts more of them near noise."""
    evenly = (1 - i / steps for i in range(steps + 1))
    return [rescale * s / (1 + (rescale - 1) * s) for s in evenly]


def guided_velocity(velocity: Velocity, x: Tensor, t: float, config: SamplerConfig, spread: Spread) -> Tensor:
    """Return g v₊ + (1 − g) v₋, rescaled, inside the guidance interval; v₊ outside it and if g = 1."""
    if not config.guides(t):
        return velocity(x, 1000 * t, True)
    if isinstance(velocity, BothPasses):
        positive, negative = velocity.both(x, 1000 * t)
    else:
        positive, negative = velocity(x, 1000 * t, True), velocity(x, 1000 * t, False)
    v = config.guidance * positive + (1 - config.guidance) * negative
    if config.guidance_rescale == 0:
        return v
    conditional = clean_from_velocity(x, positive, t, config.sigma_min)
    clean = clean_from_velocity(x, v, t, config.sigma_min)
    matched = clean * (spread(conditional) / spread(clean))
    clean = config.guidance_rescale * matched + (1 - config.guidance_rescale) * clean
    return velocity_from_clean(x, clean, t, config.sigma_min)


def dense_spread(x: Tensor) -> Tensor:
    """Return the unbiased standard deviation of each sample over all its elements: [B, ...] to [B, 1, ...]."""
    return x.std(dim=tuple(range(1, x.ndim)), keepdim=True)


def packed_spread(lengths: Sequence[int]) -> Spread:
    """Population standard deviation of each sample of a packed [L, C] over its tokens and channels, as [L, 1]."""

    def spread(x: Tensor) -> Tensor:
        parts = (part.std(unbiased=False).expand(len(part), 1) for part in x.split(list(lengths)) if len(part))
        return torch.cat([x.new_zeros(0, 1), *parts])

    return spread
