"""Which clips each step sees, and which rank computes which: a pure function of (seed, position).

Clips come in an endless row, one permutation of all of them after the other, and a step takes the next `batch` of
it, for any number of ranks. So the state of the data is one number, and no change of the world repeats or skips a clip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from helix4d.core import ConfigError, generator


@dataclass(frozen=True)
class Draw:
    """One clip of a step: its number in the index, and the epoch that it is drawn in."""

    clip: int
    epoch: int


@dataclass(frozen=True)
class Schedule:
    """The endless row.

    Attributes:
        costs: tokens of each clip of the index, in order of key.
        seed: of the run.
    """

    costs: tuple[int, ...]
    seed: int

    def __post_init__(self) -> None:
        if not self.costs:
            raise ConfigError("no clips to train on")

    def draws(self, position: int, count: int) -> list[Draw]:
        """The clips at positions `position` to `position + count`."""
        clips = len(self.costs)
        places = (divmod(p, clips) for p in range(position, position + count))
        return [Draw(int(_permutation(self.seed, epoch, clips)[place]), epoch) for epoch, place in places]

    def shares(self, position: int, count: int, ranks: int, budget: int) -> list[list[list[Draw]]]:
        """The step's clips per rank, in microbatches: `shares[rank][microbatch]` of draws."""
        draws = self.draws(position, count)
        costs = [self.costs[draw.clip] for draw in draws]
        return [
            [[draws[i] for i in piece] for piece in cut(members, costs, budget)] for members in balance(costs, ranks)
        ]


def balance(costs: Sequence[int], ranks: int) -> list[list[int]]:
    """Numbers of the costs per rank: the costliest first, each to the rank with the least so far (ties: the lowest).

    No rank is left empty where there are as many costs as ranks.
    """
    if len(costs) < ranks:
        raise ConfigError(f"a batch of {len(costs)} clips for {ranks} ranks: each needs one at least")
    totals = [(0, 0)] * ranks
    members: list[list[int]] = [[] for _ in range(ranks)]
    for i in sorted(range(len(costs)), key=lambda i: (-costs[i], i)):
        rank = min(range(ranks), key=lambda r: (totals[r], r))
        members[rank].append(i)
        # Clips count where tokens are equal, so that clips without any are spread too.
        totals[rank] = (totals[rank][0] + costs[i], totals[rank][1] + 1)
    return [sorted(m) for m in members]


def cut(members: Sequence[int], costs: Sequence[int], budget: int) -> list[list[int]]:
    """Members in order, in pieces of at most `budget`; a costlier member is a piece of its own."""
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
