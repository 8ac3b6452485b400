"""The one loop that runs jobs on Ray. This file and `cluster.py` are the only ones that import Ray.

`run_tasks` takes jobs through a `Task` (curate an asset, encode a clip) or a chain of them (generate a video, then
finish it), and every job ends in exactly one `Outcome`. All tasks survive the same faults: a lost worker or node and
Ray's out-of-memory killer cost an attempt, an unexpected exception costs the job, and storage that refuses writes is
waited for. Only an error that concerns the whole run, such as `StorageError` or `ConfigError`, ends it.
"""

from __future__ import annotations

import logging
import re
import time
from collections import Counter, deque
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import ray

from helix4d.core import ReasonCode, insist
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.cluster import Cluster, WorkerNeeds
from helix4d.curation.work.events import Ended, Tick, failed_outcome, outcome_of_exception
from helix4d.curation.work.jobs import Job, Report

log = logging.getLogger(__name__)

ATTEMPTS = 4
"""Number of times that a job is started if its workers or nodes are lost."""

_TICK_S = 0.5
_BOARD_TIMEOUT_S = 2.0
_REPORT_INTERVAL_S = 0.5
_DIGITS = re.compile(r"\d+")
_FIRST_PAUSE_S = 1.0
"""Seconds before a job's second attempt; each later pause is twice as long, so that memory may become free."""
_BACKLOG = 4
"""Jobs per place that may wait for the next task of a chain. More would only fill the disk with their files."""


@dataclass(frozen=True)
class Task:
    """One kind of work, and how Ray runs it.

    Attributes:
        run: the work, a function that workers can import, or a `functools.partial` of one. It returns the job's
            outcome, or the job for the next task of a chain. It raises `OSError` with a code of
            `helix4d.core.storage.REFUSING` where storage is at fault, not the job, and is then called again.
        needs: resources reserved for each worker.
        stage: stage to record in the outcome of a job whose worker is lost or raises.
        workers: largest number of jobs to run at the same time; None for as many as the cluster has room for.
        keeps_state: whether `run` loads what is slow to load, such as networks onto a GPU. Each worker is then a
            process of its own (a Ray actor) that keeps it from job to job, instead of any process of Ray's pool.
        patience_s: seconds to wait for storage that refuses writes.
    """

    run: Callable[[Any, Report], Outcome | Job]
    needs: WorkerNeeds
    stage: str = ""
    workers: int | None = None
    keeps_state: bool = False
    patience_s: float = 600.0

    def places(self, cluster: Cluster) -> int:
        """Number of jobs that run at the same time."""
        if self.keeps_state:
            # A process that does not fit would wait for resources, and its job with it: start no more than fit.
            fits = cluster.places(self.needs) if self.needs.cpus or self.needs.gpus else self.workers or 1
            return min(self.workers or fits, fits)
        return self.workers or cluster.places(self.needs)


def run_tasks(cluster: Cluster, tasks: Sequence[Task], jobs: Iterable[Job]) -> Iterator[Ended | Tick]:
    """Run jobs through a chain of tasks; outcomes come in the order in which jobs end, with ticks in between.

    Jobs are taken from the iterable only when there is a place for them, so neither Ray's queue nor the driver's
    memory grows with their number.

    Args:
        cluster: cluster to run them on.
        tasks: tasks that each job goes through in order, often just one. A job ends early if one of them returns an
            outcome.
        jobs: the first task's jobs.

    Raises:
        StorageError: if storage refuses writes for longer than a task's patience. Work in progress is lost, finished
            jobs are not.
        Helix4DError: any other error of a task that concerns the whole run.
    """
    # Losing its node must not end the run: Ray starts a new, empty board elsewhere.
    board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board).remote()
    lost: Counter[str] = Counter()
    lanes = [_Lane(task, cluster, board, lost, jobs if number == 0 else ()) for number, task in enumerate(tasks)]
    stages: Mapping[str, str] = {}
    last_tick = 0.0
    while True:
        if time.monotonic() - last_tick > _TICK_S:
            last_tick = time.monotonic()
            stages = _snapshot(board, stages)
            names = {name for lane in lanes for name in lane.running_names()}
            yield Tick({name: text for name, text in stages.items() if name in names})
            for lane in lanes:
                lane.update_places()  # nodes come and go
        for lane, following in reversed(list(zip(lanes, [*lanes[1:], None], strict=True))):
            if following is None or following.backlog < _BACKLOG * lane.places:
                lane.start_jobs()
        running = [reference for lane in lanes for reference in lane.running]
        if not running:
            if not any(lane.backlog for lane in lanes):
                return
            time.sleep(_TICK_S)  # all that is left waits for its next attempt
            continue
        ended, _ = ray.wait(running, timeout=_TICK_S)
        if ended:
            ended, _ = ray.wait(running, num_returns=len(running), timeout=0)
        outcomes: list[Outcome] = []
        for reference in ended:
            number = next(number for number, lane in enumerate(lanes) if reference in lane.running)
            for result in lanes[number].collect(reference):
                if isinstance(result, Outcome):
                    outcomes.append(replace(result, attempts=result.attempts + lost.pop(result.asset, 0)))
                else:
                    lanes[number + 1].add(result)
        if outcomes:
            yield Ended(tuple(outcomes))


@dataclass(frozen=True)
class _Running:
    """An attempt at a job, and the process that it runs in if its task keeps state."""

    job: Job
    attempt: int
    process: Any = None


class _Lane:
    """The jobs of one task: those that wait and those that run.

    Attributes:
        running: attempts that are running, by Ray's reference to their result.
        places: number of jobs that run at the same time.

    Args:
        task: the task.
        cluster: cluster to run them on.
        board: the progress board.
        lost: job name -> number of lost attempts, shared by the lanes of a chain.
        source: jobs of the first task of a chain; those of the others come through `add`.
    """

    def __init__(self, task: Task, cluster: Cluster, board: Any, lost: Counter[str], source: Iterable[Job]) -> None:
        self._task, self._cluster, self._board, self._lost = task, cluster, board, lost
        self._source = iter(source)
        self._waiting: deque[Job] = deque()
        self._again: list[tuple[float, int, Job]] = []  # when, attempt, job
        self._idle: list[Any] = []
        self._function = _run_in_task.options(**task.needs.to_ray(), max_retries=0)
        process: Any = ray.remote(_Process)
        self._process = process.options(**task.needs.to_ray(), max_restarts=0)
        self.running: dict[Any, _Running] = {}
        self.update_places()

    def update_places(self) -> None:
        """Adapt to the cluster's size."""
        self.places = self._task.places(self._cluster)

    @property
    def backlog(self) -> int:
        """Number of jobs that came from the task before or wait for another attempt."""
        return len(self._waiting) + len(self._again)

    def running_names(self) -> Iterator[str]:
        return (running.job.name for running in self.running.values())

    def add(self, job: Job) -> None:
        self._waiting.append(job)

    def start_jobs(self) -> None:
        """Start jobs until all places are taken."""
        while len(self.running) < self._most_running():
            job, attempt = self._next_job()
            if job is None:
                # No job waits for an idle process, but a process that waits for resources may need those it holds.
                self._idle.clear()
                return
            self._start(job, attempt)

    def collect(self, reference: Any) -> Iterator[Outcome | Job]:
        """The result of a run that has ended, an outcome or the next task's job; none if the job is tried again.

        Raises:
            Helix4DError: if it concerns the whole run.
        """
        ended = self.running.pop(reference)
        try:
            result: Outcome | Job = ray.get(reference)
        except ray.exceptions.RayTaskError as error:
            # Its process is not used again: after a CUDA error, for one, everything in it fails.
            yield outcome_of_exception(error.cause, ended.job, str(error), self._task.stage)
        except ray.exceptions.RayError as error:
            if ended.attempt < ATTEMPTS:
                pause_s = _FIRST_PAUSE_S * 2 ** (ended.attempt - 1)
                self._again.append((time.monotonic() + pause_s, ended.attempt + 1, ended.job))
                self._lost[ended.job.name] += 1
                log.debug("%s: attempt %d was lost (%s)", ended.job.name, ended.attempt, error)
            else:
                yield _outcome_of_loss(error, ended, self._task.stage)
        else:
            if ended.process is not None:
                self._idle.append(ended.process)
            yield result

    def _most_running(self) -> int:
        if self._task.keeps_state or self._task.workers:
            return self.places
        # One job in reserve per worker, so that no worker waits for the driver.
        return 2 * self.places

    def _next_job(self) -> tuple[Job | None, int]:
        now = time.monotonic()
        for entry in self._again:
            when, attempt, job = entry
            if when <= now:
                self._again.remove(entry)
                return job, attempt
        return (self._waiting.popleft() if self._waiting else next(self._source, None)), 1

    def _start(self, job: Job, attempt: int) -> None:
        process = None
        arguments = (self._task.run, job, self._task.patience_s, self._board)
        if self._task.keeps_state:
            process = self._idle.pop() if self._idle else self._process.remote()
            reference = process.run.remote(*arguments)
        else:
            reference = self._function.remote(*arguments)
        self.running[reference] = _Running(job, attempt, process)


def _outcome_of_loss(error: Exception, ended: _Running, stage: str) -> Outcome:
    if isinstance(error, ray.exceptions.OutOfMemoryError):
        code = ReasonCode.OUT_OF_MEMORY
        message = f"the node ran out of memory, and Ray killed the worker ({ended.attempt} attempts)"
    else:
        code, message = ReasonCode.CRASHED, f"the Ray worker or its node was lost {ended.attempt} times"
    return failed_outcome(ended.job, code, message, str(error), stage)


def _work(run: Callable[[Any, Report], Any], job: Job, patience_s: float, board: Any) -> Any:
    """Run a job in a worker."""
    report = _Reporter(board, job.name)
    try:
        return insist(lambda: run(job, report), job.target, patience_s, tell=report.now)
    finally:
        board.remove.remote(job.name)


@ray.remote
def _run_in_task(*arguments: Any) -> Any:
    return _work(*arguments)


class _Process:
    """A Ray actor: a process of its own, which keeps what a task has loaded."""

    def run(self, *arguments: Any) -> Any:
        return _work(*arguments)


class _Reporter:
    """A `Report` that writes to the board."""

    def __init__(self, board: Any, name: str) -> None:
        self._board, self._name = board, name
        self._last, self._words = 0.0, ""

    def __call__(self, text: str) -> None:
        # Only counts may be dropped: a slow stage is reported once, possibly right after the previous one.
        words = _DIGITS.sub("", text)
        if words != self._words or time.monotonic() - self._last > _REPORT_INTERVAL_S:
            self._words = words
            self.now(text)

    def now(self, text: str) -> None:
        """Show `text` in any case."""
        self._last = time.monotonic()
        self._board.write.remote(self._name, text)


class _Board:
    """A Ray actor to which workers write what they are doing, for the display."""

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def write(self, name: str, text: str) -> None:
        self._stages[name] = text

    def remove(self, name: str) -> None:
        self._stages.pop(name, None)

    def snapshot(self) -> dict[str, str]:
        return dict(self._stages)


def _snapshot(board: Any, last: Mapping[str, str]) -> Mapping[str, str]:
    try:
        stages: Mapping[str, str] = ray.get(board.snapshot.remote(), timeout=_BOARD_TIMEOUT_S)
    except ray.exceptions.RayError:
        # Only people read the board: while Ray moves it to another node, they see its last content.
        log.debug("the progress board does not respond")
        return last
    return stages
