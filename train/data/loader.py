"""The clips of each step, read ahead by threads in the order in which they will be needed.

Threads, because reading, decompression, resizing and drawing noise all leave Python's lock. What they are asked for
depends on the schedule alone, so the state of the loader is the step that it is at.
"""

from __future__ import annotations

import itertools
import logging
import time
from collections import deque
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import AbstractContextManager
from dataclasses import dataclass

from helix4d.core import Helix4DError
from helix4d.train.config import TrainConfig
from helix4d.train.data.dataset import UNREADABLE, ClipReader, TrainingClip
from helix4d.train.data.schedule import Draw, Schedule

log = logging.getLogger("helix4d.train")


class BrokenDataError(Helix4DError):
    """More clips were missing or broken than the budget allows."""


@dataclass(frozen=True)
class RankStep:
    """One rank's share of a step.

    Attributes:
        microbatches: clips; a microbatch may be empty where all of its clips were broken.
        broken: keys of the clips that could not be read.
        waited_s: how long the step waited for them.
    """

    microbatches: list[list[TrainingClip]]
    broken: list[str]
    waited_s: float


class Loader(AbstractContextManager["Loader"]):
    """Reads one rank's clips.

    Args:
        reader: the clips.
        schedule: the order.
        config: batch, budget, seed, threads.
        rank, ranks: which share.
    """

    def __init__(self, reader: ClipReader, schedule: Schedule, config: TrainConfig, rank: int, ranks: int) -> None:
        self._reader, self._schedule, self._config = reader, schedule, config
        self._rank, self._ranks = rank, ranks
        self._pool = ThreadPoolExecutor(config.data.workers, thread_name_prefix="clips")

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def steps(self, step: int, position: int, end: int | None = None) -> Iterator[RankStep]:
        """The shares from `step` on, whose first clip is at `position` of the row, to `end`; without it, endless."""
        queue: deque[list[list[tuple[Draw, Future[TrainingClip]]]]] = deque()
        ahead = range(end - step) if end is not None else itertools.count()
        for asked in ahead:
            queue.append(self._ask(step + asked, position + asked * self._config.batch))
            if len(queue) > self._config.data.ahead:
                yield self._take(queue.popleft())
        while queue:
            yield self._take(queue.popleft())

    def _ask(self, step: int, position: int) -> list[list[tuple[Draw, Future[TrainingClip]]]]:
        config = self._config
        shares = self._schedule.shares(position, config.batch, self._ranks, config.tokens_per_microbatch)
        return [
            [
                (
                    draw,
                    self._pool.submit(
                        self._reader.training_clip,
                        draw.clip,
                        (config.seed, step, draw.epoch),
                        config.condition_dropout,
                    ),
                )
                for draw in microbatch
            ]
            for microbatch in shares[self._rank]
        ]

    def _take(self, asked: list[list[tuple[Draw, Future[TrainingClip]]]]) -> RankStep:
        start = time.perf_counter()
        microbatches: list[list[TrainingClip]] = []
        broken = []
        for microbatch in asked:
            microbatches.append([])
            for draw, future in microbatch:
                try:
                    microbatches[-1].append(future.result())
                except UNREADABLE as error:
                    key = self._reader.entries[draw.clip].key
                    log.warning("clip %s left out: %s: %s", key, type(error).__name__, error)
                    broken.append(key)
        return RankStep(microbatches, broken, time.perf_counter() - start)


def padded(
    microbatches: Sequence[list[TrainingClip]], most: int, spare: list[TrainingClip] | None
) -> Iterator[tuple[list[TrainingClip], float]]:
    """A rank's microbatches and their weights, followed by weightless ones until there are `most`.

    Sharded ranks gather parameters together, so all must run the network equally often.

    Args:
        microbatches: of this rank, none empty.
        most: microbatches of the rank that has most.
        spare: an earlier microbatch, for a step in which this rank has none.

    Raises:
        BrokenDataError: if this rank has never had a clip.
    """
    yield from ((clips, 1.0) for clips in microbatches)
    filler = microbatches[-1] if microbatches else spare
    if filler is None and most:
        raise BrokenDataError("this rank has not read a single clip, and sharded ranks must take part in every step")
    for _ in range(most - len(microbatches)):
        yield filler or [], 0.0
