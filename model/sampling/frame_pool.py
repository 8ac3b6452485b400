"""Meshes frames in other processes while the next ones are decoded; a frame that fails costs no other frame.

Processes rather than threads, because xatlas holds Python's global lock for seconds per frame.
"""

from __future__ import annotations

import multiprocessing
import os
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass, field
from typing import Any

from helix4d.core import Helix4DError
from helix4d.core.errors import SetupError

_MOST_WORKERS = 8  # a frame of a million voxels takes about 1 GB


@dataclass
class FramePool:
    """Applies a function to numbered frames, several at a time.

    Attributes:
        work: module-level function of the arguments of a frame; it must not need a GPU.
        workers: number of processes.
    """

    work: Callable[..., Any]
    workers: int = field(default_factory=lambda: max(1, min(_MOST_WORKERS, len(os.sched_getaffinity(0)) - 1)))

    def results(self, frames: Iterable[tuple[int, tuple[Any, ...]]]) -> Iterator[tuple[int, Any]]:
        """Yield each frame's number and its result, or the exception that it raised, as they end.

        At most `workers` + 1 frames are in flight, which bounds memory. A worker that crashes is replaced: the frames
        in flight run again, one by one, and only those that crash have failed.

        Raises:
            SetupError: if a package is missing, because then all frames fail.
        """
        pool = self._pool()
        flying: dict[Future[Any], tuple[int, tuple[Any, ...]]] = {}
        try:
            for number, arguments in frames:
                while len(flying) > self.workers or any(future.done() for future in flying):
                    pool = yield from self._land(pool, flying)
                try:
                    future = pool.submit(self.work, *arguments)
                except BrokenProcessPool:  # a worker has just crashed: its frames first
                    pool = (yield from self._land(pool, flying)) if flying else self._pool()
                    future = pool.submit(self.work, *arguments)
                flying[future] = number, arguments
            while flying:
                pool = yield from self._land(pool, flying)
        finally:
            pool.shutdown(cancel_futures=True)

    def _land(self, pool: ProcessPoolExecutor, flying: dict[Future[Any], tuple[int, tuple[Any, ...]]]) -> Any:
        """Yield the frames that have ended, at least one; returns the pool to use from then on."""
        done, _ = wait(flying, return_when=FIRST_COMPLETED)
        if any(isinstance(future.exception(), BrokenProcessPool) for future in done):
            wait(flying)  # a broken pool ends all of its work
            ended = list(flying.items())
            flying.clear()
            pool.shutdown()
            for future, (number, arguments) in ended:
                crashed = isinstance(future.exception(), BrokenProcessPool)
                yield number, self._alone(arguments) if crashed else _outcome(future)
            return self._pool()
        for future in sorted(done, key=lambda future: flying[future][0]):
            number, _ = flying.pop(future)
            yield number, _outcome(future)
        return pool

    def _alone(self, arguments: tuple[Any, ...]) -> Any:
        """Run one frame in a pool of its own."""
        with self._pool(1) as pool:
            future = pool.submit(self.work, *arguments)
            if isinstance(future.exception(), BrokenProcessPool):
                return Helix4DError("its process crashed or ran out of memory")
            return _outcome(future)

    def _pool(self, workers: int | None = None) -> ProcessPoolExecutor:
        # A forked child would inherit the GPU's state and the threads' locks.
        return ProcessPoolExecutor(workers or self.workers, multiprocessing.get_context("spawn"))


def _outcome(future: Future[Any]) -> Any:
    error = future.exception()
    if isinstance(error, SetupError):
        raise error
    return future.result() if error is None else error
