"""Work spread over processes, for loops that are too small for Ray."""

from __future__ import annotations

import multiprocessing
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from typing import TypeVar

_Item = TypeVar("_Item")
_Result = TypeVar("_Result")


def map_processes(function: Callable[[_Item], _Result], items: Sequence[_Item], workers: int) -> Iterator[_Result]:
    """Yield `function(item)` for every item, in order, computed in at most `workers` processes.

    With a single worker or item, no process is started.
    """
    workers = min(workers, len(items))
    if workers < 2:
        yield from map(function, items)
        return
    # Spawned, not forked: a forked child would inherit the state of numba's threads without the threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(function, items)
