"""Load the clips of each step, prefetched by threads in the order in which they are used.

Threads suffice because reading, decompression, resizing and drawing noise all release the GIL. Requests depend only on
the schedule, so the state of the loader is the current step.
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
from helix4d.train.data.schedule import Draw, Schedule, busy_share

log = logging.getLogger("helix4d.train")


class BrokenDataError(Helix4DError):
    """More clips are missing or broken than `data.max_broken` allows."""


@dataclass(frozen=True)
class RankStep:
    """One rank's share of a step.

    Attributes:
        microbatches: clips of each microbatch; empty if all of its clips are broken.
        broken: keys of the clips that could not be read.
        keys: keys of all clips of the step, those of other ranks included, in the order of the schedule.
        busy: mean number of tokens of a rank, relative to the largest.
        waited_s: seconds that the step waited for data.
    """

    microbatches: list[list[TrainingClip]]
    broken: list[str]
    keys: list[str]
    busy: float
    waited_s: float


@dataclass(frozen=True)
class _Submitted:
    """A step whose clips are being read: this rank's microbatches, and `keys` and `busy` as in `RankStep`."""

    microbatches: list[list[tuple[Draw, Future[TrainingClip]]]]
    keys: list[str]
    busy: float


class Loader(AbstractContextManager["Loader"]):
    """Loads the clips of one rank.

    Args:
        reader: reader of the clips.
        schedule: order of the clips.
        config: batch size, token budget, seed and number of threads.
        rank: index of this rank.
        ranks: number of ranks.
    """

    def __init__(self, reader: ClipReader, schedule: Schedule, config: TrainConfig, rank: int, ranks: int) -> None:
        self._reader, self._schedule, self._config = reader, schedule, config
        self._rank, self._ranks = rank, ranks
        self._pool = ThreadPoolExecutor(config.data.workers, thread_name_prefix="clips")
        self._queue: deque[_Submitted] = deque()

    def __exit__(self, *_: object) -> None:
        self._pool.shutdown(cancel_futures=True)

    def steps(self, step: int, position: int, end: int | None = None) -> Iterator[RankStep]:
        """Yield this rank's shares from `step`, whose first clip is at `position`, up to `end` or without end."""
        queue = self._queue = deque()
        offsets = range(end - step) if end is not None else itertools.count()
        for offset in offsets:
            queue.append(self._submit(step + offset, position + offset * self._config.batch))
            if len(queue) > self._config.data.ahead:
                yield self._collect(queue.popleft())
        while queue:
            yield self._collect(queue.popleft())

    def upcoming(self) -> list[TrainingClip]:
        """Return the first microbatch of the next step, without waiting: empty if it has not been read yet."""
        if not self._queue or not self._queue[0].microbatches:
            return []
        reads = [future for _, future in self._queue[0].microbatches[0]]
        if not all(read.done() for read in reads):
            return []
        return [read.result() for read in reads if read.exception() is None]

    def _submit(self, step: int, position: int) -> _Submitted:
        config, reader = self._config, self._reader
        shares = self._schedule.shares(position, config.batch, self._ranks, config.tokens_per_microbatch)

        def read(draw: Draw) -> Future[TrainingClip]:
            names = (config.seed, step, draw.epoch)
            return self._pool.submit(reader.training_clip, draw.clip, names, config.condition_dropout)

        own = [[(draw, read(draw)) for draw in microbatch] for microbatch in shares[self._rank]]
        keys = [reader.entries[draw.clip].key for draw in self._schedule.step(position, config.batch)]
        return _Submitted(own, keys, busy_share([self._schedule.totals(shares)]))

    def _collect(self, submitted: _Submitted) -> RankStep:
        start = time.perf_counter()
        microbatches: list[list[TrainingClip]] = []
        broken = []
        for microbatch in submitted.microbatches:
            microbatches.append([])
            for draw, future in microbatch:
                try:
                    microbatches[-1].append(future.result())
                except UNREADABLE as error:
                    key = self._reader.entries[draw.clip].key
                    log.warning("skipping clip %s: %s: %s", key, type(error).__name__, error)
                    broken.append(key)
        return RankStep(microbatches, broken, submitted.keys, submitted.busy, time.perf_counter() - start)


def padded(
    microbatches: Sequence[list[TrainingClip]], count: int, spare: list[TrainingClip] | None
) -> Iterator[tuple[list[TrainingClip], float]]:
    """Yield a rank's microbatches with weight 1, padded with microbatches of weight 0 up to `count`.

    Sharded ranks gather parameters together, so all of them must run the network equally often.

    Args:
        microbatches: non-empty microbatches of this rank.
        count: largest number of microbatches of any rank.
        spare: an earlier microbatch, used if this rank has none in this step.

    Raises:
        BrokenDataError: if padding is needed but this rank has not read any clip yet.
    """
    yield from ((clips, 1.0) for clips in microbatches)
    filler = microbatches[-1] if microbatches else spare
    if filler is None and count:
        raise BrokenDataError("this rank could not read any clip, but sharded ranks must take part in every step")
    for _ in range(count - len(microbatches)):
        yield filler or [], 0.0
