"""Process items in one or several processes with one thread each, so that sums round identically on every machine."""

from __future__ import annotations

import os
import queue
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from multiprocessing import get_context, parent_process
from pathlib import Path
from typing import Any, TypeVar

import torch

from helix4d.core import Helix4DError, setup_logging
from helix4d.core.scratch import scratch_folder

_Task = TypeVar("_Task")
_Result = TypeVar("_Result")
_LOOK_S = 1.0
"""Interval between checks that the workers are alive."""


class WorkerError(Helix4DError):
    """A worker process died."""


def work(step: Callable[[_Task], _Result], tasks: Sequence[_Task], workers: int) -> Iterator[_Result]:
    """Yield results in order of completion.

    Args:
        step: function applied to each task; with several workers it is pickled, and each worker keeps its own copy.
        tasks: arguments of `step`; pickled if there are several workers.
        workers: number of processes; with 1, tasks run in this process.

    Raises:
        WorkerError: if a worker dies, for example because it runs out of memory.
        Exception: if a step raises.
    """
    if workers <= 1:
        with _one_thread():
            for task in tasks:
                yield step(task)
        return
    context = get_context("spawn")  # a fork would inherit locks of torch and Blender
    todo: Any = context.Queue()
    done: Any = context.Queue()
    for entry in [*tasks, *[None] * workers]:
        todo.put(entry)
    with scratch_folder("helix4d-evaluation-") as scratch:
        serve = (step, todo, done, scratch)
        processes = [context.Process(target=_serve, args=serve, daemon=True) for _ in range(workers)]
        try:
            for process in processes:
                process.start()
            for _ in tasks:
                answer = _answer(done, processes)
                if isinstance(answer, BaseException):
                    raise answer
                yield answer
        finally:
            for process in processes:
                if process.pid is not None:
                    process.terminate()
                    process.join()


def _answer(done: Any, processes: Sequence[Any]) -> Any:
    while True:
        dead = [process.exitcode for process in processes if process.exitcode]
        try:
            return done.get(timeout=_LOOK_S)
        except queue.Empty:
            # Exit codes are read before the queue, so that a worker's last result is not lost.
            if dead:
                raise WorkerError(
                    f"a worker died (exit code {dead[0]}): if memory ran out, use fewer --workers; rerun to continue"
                ) from None


def _serve(step: Callable[[Any], Any], todo: Any, done: Any, scratch: Path) -> None:
    """Run the main loop of a worker."""
    setup_logging()
    os.environ["TMPDIR"] = str(scratch)  # also for Blender, which leaves temporary files behind when terminated
    # If the driver has loaded bpy, the inherited sys.path starts with bpy's folders, which shadow bpy itself.
    sys.path[:] = [entry for entry in sys.path if not {"bpy", "scripts"} <= set(Path(entry).parts)]
    with _one_thread():
        while (task := _next(todo)) is not None:
            try:
                done.put(step(task))
            except Exception as error:  # noqa: BLE001 (raised again by the driver)
                done.put(error)
                return


def _next(todo: Any) -> Any:
    """Return the next task, or None if there are no more or the driver was killed."""
    driver = parent_process()
    while driver is None or driver.is_alive():
        try:
            return todo.get(timeout=_LOOK_S)
        except queue.Empty:
            continue
    return None


@contextmanager
def _one_thread() -> Iterator[None]:
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
