"""Assign clips to steps and ranks, as a pure function of (seed, position).

Clips form an endless sequence of permutations, and each step takes the next `batch` clips, for any number of ranks. So
the state of the data is one number, and resuming with another number of ranks neither repeats nor skips clips.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

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
    """

    costs: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.costs:
            raise ConfigError("no clips to train on")

    def draws(self, position: int, count: int) -> list[Draw]:
        """Return the `count` clips from `position` on."""
        clips = len(self.costs)
        places = (divmod(p, clips) for p in range(position, position + count))
        return [Draw(int(_permutation(self.seed, epoch, clips)[place]), epoch) for epoch, place in places]

    def shares(self, position: int, count: int, ranks: int, budget: int) -> list[list[list[Draw]]]:
        """Return the step's clips by rank and microbatch: `shares[rank][microbatch]` is a list of draws."""
        draws = self.draws(position, count)
        costs = [self.costs[draw.clip] for draw in draws]
        return [
            [[draws[i] for i in piece] for piece in cut(members, costs, budget)] for members in balance(costs, ranks)
        ]

    def busy_share(self, shares: Sequence[Sequence[Sequence[Draw]]]) -> float:
        """Return the mean cost of a rank relative to the largest: the share of time that ranks do not wait in."""
        totals = [sum(self.costs[draw.clip] for piece in share for draw in piece) for share in shares]
        return sum(totals) / (len(totals) * max(totals)) if max(totals) else 1.0


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
def _permutation(seed: int, epoch: int, clips: int) -> np.ndarray:
    return generator(seed, "shuffle", epoch).permutation(clips)
