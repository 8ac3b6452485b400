"""Assign clips to steps and ranks, as a pure function of (seed, position).

Clips form an endless sequence of permutations, and each step takes the next `batch` clips, for any number of ranks. So
the state of the data is one number, and resuming with another number of ranks neither repeats nor skips clips.

With few clips per rank, ranks wait for the rank with the longest clip. `balance_steps` therefore sorts the clips of
several steps by their number of tokens, so that each of these steps takes clips of similar length.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from fractions import Fraction
from functools import cached_property, lru_cache
from math import floor

import numpy as np

from helix4d.core import ConfigError, generator


@dataclass(frozen=True)
class Draw:
    """One clip of a step: its position in the index, and its epoch."""

    clip: int
    epoch: int


@dataclass(frozen=True)
class Schedule:
    """Endless sequence of clips.

    Attributes:
        costs: number of tokens of each clip of the index, in order of key.
        seed: seed of the run.
        static: whether each clip is static; only used with `static_share`.
        static_share: share of static clips in the sequence; None draws all clips equally often.
        balance_steps: number of steps whose clips are sorted by tokens; 1 for none.
    """

    costs: tuple[int, ...]
    seed: int
    static: tuple[bool, ...] = ()
    static_share: Fraction | None = None
    balance_steps: int = 1

    def __post_init__(self) -> None:
        if not self.costs:
            raise ConfigError("no clips to train on")
        if self.static_share is not None:
            found = sum(self.static)
            if (self.static_share > 0 and not found) or (self.static_share < 1 and found == len(self.costs)):
                raise ConfigError(
                    f"data.mix needs static and animated clips, but {found} of {len(self.costs)} clips are static: "
                    "curate with --static also, or remove data.mix"
                )

    def draws(self, position: int, count: int) -> list[Draw]:
        """Return the `count` clips from `position` on, in the order of the sequence."""
        return [self._draw(p) for p in range(position, position + count)]

    def step(self, position: int, batch: int) -> list[Draw]:
        """Return the `batch` clips of the step that starts at `position`."""
        if self.balance_steps == 1:
            return self.draws(position, batch)
        window, inside = divmod(position // batch, self.balance_steps)
        return list(_balanced(self, window, batch)[inside])

    def _draw(self, position: int) -> Draw:
        if self.static_share is None:
            return _nth(self.seed, (), range(len(self.costs)), position)
        # Evenly interleaved: the first n clips contain floor(n · share) static ones.
        before = floor(position * self.static_share)
        is_static = floor((position + 1) * self.static_share) > before
        place = before if is_static else position - before
        return _nth(self.seed, ("static" if is_static else "animated",), self._kinds[is_static], place)

    @cached_property
    def _kinds(self) -> tuple[list[int], list[int]]:
        """The animated clips, and the static ones."""
        clips = range(len(self.static))
        return [c for c in clips if not self.static[c]], [c for c in clips if self.static[c]]

    def shares(self, position: int, count: int, ranks: int, budget: int) -> list[list[list[Draw]]]:
        """Return the step's clips by rank and microbatch: `shares[rank][microbatch]` is a list of draws."""
        draws = self.step(position, count)
        costs = [self.costs[draw.clip] for draw in draws]
        return [
            [[draws[i] for i in piece] for piece in cut(members, costs, budget)] for members in balance(costs, ranks)
        ]

    def totals(self, shares: Sequence[Sequence[Sequence[Draw]]]) -> list[int]:
        """Return the number of tokens of each rank in a step."""
        return [sum(self.costs[draw.clip] for piece in share for draw in piece) for share in shares]


def busy_share(steps: Sequence[Sequence[int]]) -> float:
    """Return the share of time in which ranks do not wait for the slowest one, if time is proportional to tokens.

    Args:
        steps: number of tokens of each rank in each step.
    """
    longest = sum(len(totals) * max(totals) for totals in steps)
    return sum(map(sum, steps)) / longest if longest else 1.0


def balance(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Distribute costs over ranks and return their indices per rank.

    Costs are assigned in descending order, each to the rank with the lowest total so far (the first of equals). No rank
    is empty if there are at least as many costs as ranks.
    """
    if len(costs) < ranks:
        raise ConfigError(f"batch is {len(costs)} with {ranks} ranks: must be at least one clip per rank")
    totals = [(0, 0)] * ranks
    members: list[list[int]] = [[] for _ in range(ranks)]
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(ranks), key=lambda r: (totals[r], r))
        members[rank].append(i)
        # Break ties by the number of clips, so that clips without tokens are distributed too.
        totals[rank] = (totals[rank][0] + costs[i], totals[rank][1] + 1)
    return [sorted(m) for m in members]


def cut(members: Sequence[int], costs: Sequence[int], budget: int) -> list[list[int]]:
    """Cut members, in order, into pieces that cost at most `budget`; a costlier member forms its own piece."""
    pieces: list[list[int]] = []
    room = 0
    for i in members:
        if not pieces or costs[i] > room:
            pieces.append([])
            room = budget
        pieces[-1].append(i)
        room -= costs[i]
    return pieces


@lru_cache(maxsize=4)
def _balanced(schedule: Schedule, window: int, batch: int) -> tuple[tuple[Draw, ...], ...]:
    """Divide the clips of `balance_steps` steps into batches of similar length, in random order."""
    steps = schedule.balance_steps
    draws = schedule.draws(window * steps * batch, steps * batch)
    by_cost = sorted(range(len(draws)), key=lambda i: (schedule.costs[draws[i].clip], i))
    batches = [sorted(by_cost[start : start + batch]) for start in range(0, len(draws), batch)]
    order = generator(schedule.seed, "balance", window).permutation(steps)
    return tuple(tuple(draws[i] for i in batches[number]) for number in order)


def _nth(seed: int, kind: tuple[str, ...], clips: Sequence[int], position: int) -> Draw:
    """Return the clip at a position of the endless sequence of permutations of some clips."""
    epoch, place = divmod(position, len(clips))
    return Draw(clips[int(_permutation(seed, kind, epoch, len(clips))[place])], epoch)


@lru_cache(maxsize=8)
def _permutation(seed: int, kind: tuple[str, ...], epoch: int, clips: int) -> np.ndarray:
    return generator(seed, "shuffle", *kind, epoch).permutation(clips)
