"""The one file that knows Ray: assets and shards become Ray tasks, Ray's scheduler places them.

A task runs its asset in the Ray worker's sandbox, a child process that survives from task to task, so Blender starts
once per Ray worker and its death costs one attempt at one asset. If a whole node is lost, Ray runs its tasks again; an
asset whose Ray workers die every time has failed, and the run goes on.
"""

from __future__ import annotations

import errno
import functools
import logging
import os
import re
import socket
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Self

import ray

from helix4d.core import AssetState, ConfigError, Helix4DError, ReasonCode, first_line, insist
from helix4d.core.processes import python_path
from helix4d.curation.config import Limits, RunConfig
from helix4d.curation.places.store import Store
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.mirror import publish_shard
from helix4d.curation.shards.shard import read_sidecar, write_shard
from helix4d.curation.work.gpus import choose_gpus, find_usable_gpus
from helix4d.curation.work.jobs import AssetJob, ShardJob
from helix4d.curation.work.sandbox import Event, JobDied, Sandbox
from helix4d.render import EngineName

log = logging.getLogger(__name__)

_TICK_S = 0.5
_ANSWER_S = 30.0
_REPORT_EVERY_S = 0.5
_NODE_LOSSES = 3
_BOARD_S = 2.0
_LOG_CHARACTERS = 4000


@dataclass(frozen=True)
class Tick:
    """What is being worked on now: asset -> `stage step/steps`. Comes twice a second at most."""

    stages: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """Assets that ended since the last news, at least one."""

    outcomes: tuple[Outcome, ...]


class Engine:
    """A connection to Ray, as a context manager.

    Args:
        run: address, workers, resources and limits.

    Raises:
        ConfigError: on entry, if the cluster does not answer; or if this machine, used alone, has not what one worker
            needs. A cluster may still grow.
    """

    def __init__(self, run: RunConfig) -> None:
        self._run = run
        self._is_local = False

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        # By default Ray begins a task again and again whose node runs out of memory.
        os.environ.setdefault("RAY_task_oom_retries", str(_NODE_LOSSES))
        address = self._run.address or os.environ.get("RAY_ADDRESS")
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        if address:
            _check_answer(address)
            try:
                ray.init(address=address, runtime_env=_worker_environment(), **common)
            except (ConnectionError, RuntimeError, ray.exceptions.RayError) as error:
                raise ConfigError(
                    f"no connection to the Ray cluster at {address}: {_innermost(error)}. Is it running, and do both "
                    "sides have the same RAY_AUTH_MODE and RAY_AUTH_TOKEN_PATH?"
                ) from error
        else:
            self._is_local = True
            workers = self._run.workers or max(1, (os.cpu_count() or 1) // self._run.cpus_per_worker)
            ray.init(
                address="local",
                num_cpus=workers * self._run.cpus_per_worker,
                include_dashboard=False,
                runtime_env=_worker_environment(),
                **common,
            )
        # Losing its node must not end the run: a new, empty board takes its place.
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
        self._board: Any = board.remote()
        self._stages: Mapping[str, str] = {}
        try:
            self._check_that_a_worker_fits(elastic=bool(address))
        except BaseException:
            ray.shutdown()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def reserve_gpus(self, engine: EngineName) -> float:
        """GPUs to reserve for each worker: `helix4d.curation.work.gpus.choose_gpus`, for this cluster.

        Raises:
            ConfigError: if GPUs were asked for that are not there, or that Blender cannot render on.
        """
        there = ray.cluster_resources().get("GPU", 0.0)
        # A cluster that was joined may have more nodes later.
        most = there if self._is_local else float("inf")

        def usable(gpus: float) -> list[str]:
            names: list[str] = ray.get(_usable_gpus.options(num_gpus=gpus).remote())
            return names

        return choose_gpus(self._run.gpus_per_worker, engine, there, most, usable)

    def work(self, jobs: Iterable[AssetJob], gpus: float = 0.0, device: str = "cpu") -> Iterator[Ended | Tick]:
        """Run the jobs; outcomes come in the order in which they end, ticks in between.

        No more jobs are begun than there are places for, so neither Ray's queue nor the driver's memory fills up.

        Args:
            jobs: what is to be done.
            gpus: that Ray reserves for each of them.
            device: that they render on.

        Raises:
            StorageError: if an output refuses writes for longer than we wait. What else is running then is lost work,
                not lost data.
        """
        run = self._run
        task = _work_on_asset.options(
            num_cpus=run.cpus_per_worker,
            num_gpus=gpus,
            memory=run.memory_gb_per_worker * 1e9,
            max_retries=_NODE_LOSSES,
        )
        waiting = iter(jobs)
        running: dict[Any, AssetJob] = {}
        last_tick = 0.0
        most = self._most_running(gpus)
        while True:
            if time.monotonic() - last_tick > _TICK_S:
                last_tick = time.monotonic()
                most = self._most_running(gpus)  # nodes come and go
                yield Tick(self._now())
            while len(running) < most and (job := next(waiting, None)) is not None:
                running[task.remote(replace(job, device=device), run.limits, self._board)] = job
            if not running:
                return
            ended, _ = ray.wait(list(running), timeout=_TICK_S)
            if ended:
                ended, _ = ray.wait(list(running), num_returns=len(running), timeout=0)
                yield Ended(tuple(_outcome(reference, running.pop(reference)) for reference in ended))

    def workers(self, gpus: float = 0.0) -> int:
        """How many assets can be worked on at the same time, each with so many GPUs."""
        if self._run.workers:
            return self._run.workers
        resources = ray.cluster_resources()
        places = resources.get("CPU", 1) / self._run.cpus_per_worker
        if gpus:
            places = min(places, resources.get("GPU", 0) / gpus)
        return max(1, int(places))

    def start_shard(self, job: ShardJob) -> Any:
        """Begin to write a shard somewhere in the cluster; give what comes back to `finish_shards`."""
        return _write_shard.remote(job)

    def finish_shards(self, handles: list[Any]) -> None:
        """Wait until the shards are written; an error of one of them is raised here.

        Raises:
            StorageError: if the output refuses writes for longer than we wait.
        """
        try:
            ray.get(handles)
        except ray.exceptions.RayTaskError as error:
            raise _of_ours(error) from error

    def check_shards(self, handles: list[Any]) -> list[Any]:
        """`finish_shards` for those that are written already; the others are returned."""
        written, left = ray.wait(handles, num_returns=len(handles), timeout=0) if handles else ([], [])
        self.finish_shards(written)
        return list(left)

    def _most_running(self, gpus: float) -> int:
        # One in reserve for each place, so that none waits for the driver; a number that was asked for is kept to.
        return self._run.workers or 2 * self.workers(gpus)

    def _now(self) -> Mapping[str, str]:
        try:
            self._stages = ray.get(self._board.snapshot.remote(), timeout=_BOARD_S)
        except ray.exceptions.RayError:
            # The board is for people alone. While it moves to another node, they see what it said last.
            log.debug("the board does not answer")
        return self._stages

    def _check_that_a_worker_fits(self, elastic: bool) -> None:
        run = self._run
        needed = {
            "CPU": float(run.cpus_per_worker),
            "GPU": run.gpus_per_worker or 0.0,
            "memory": run.memory_gb_per_worker * 1e9,
        }
        nodes = [node["Resources"] for node in ray.nodes() if node["Alive"]]
        if not any(all(node.get(name, 0.0) >= amount for name, amount in needed.items()) for node in nodes):
            has = "; ".join(_told({name: node.get(name, 0.0) for name in needed}) for node in nodes)
            what = f"a worker needs {_told(needed)}, and no node has that (there: {has or 'no node'})"
            if not elastic:
                raise ConfigError(f"{what}: lower --cpus-per-worker, --gpus-per-worker or --memory-gb-per-worker")
            log.warning("%s: waiting for one that does", what)


def _outcome(reference: Any, job: AssetJob) -> Outcome:
    attempts = 1 + _NODE_LOSSES
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.RayTaskError as error:
        if isinstance(error.cause, Helix4DError):
            raise error.cause from error
        attempts = 1
        code, message, tail = ReasonCode.CRASHED, f"its Ray worker failed: {error.cause!r}", str(error)
    except ray.exceptions.OutOfMemoryError as error:
        code, message, tail = (
            ReasonCode.OUT_OF_MEMORY,
            f"its node ran out of memory, and Ray ended its worker {attempts} times",
            str(error),
        )
    except ray.exceptions.RayError as error:
        code, message, tail = ReasonCode.CRASHED, f"its Ray worker or node was lost {attempts} times", str(error)
    else:
        return outcome
    log = tail[-_LOG_CHARACTERS:]
    return Outcome(job.asset, AssetState.FAILED, code, message=message, attempts=attempts, log=log)


def _of_ours(error: Any) -> Exception:
    return error.cause if isinstance(error.cause, Helix4DError) else error


class _Board:
    """Where workers write what they do, for the display."""

    def __init__(self) -> None:
        self._stages: dict[str, str] = {}

    def write(self, asset: str, stage: str | None) -> None:
        if stage is None:
            self._stages.pop(asset, None)
        else:
            self._stages[asset] = stage

    def snapshot(self) -> dict[str, str]:
        return dict(self._stages)


@ray.remote
def _work_on_asset(job: AssetJob, limits: Limits, board: Any) -> Outcome:
    sandbox = _sandbox(limits, job.threads)
    last_report = 0.0

    def report(event: Event) -> None:
        nonlocal last_report
        if time.monotonic() - last_report > _REPORT_EVERY_S:
            last_report = time.monotonic()
            board.write.remote(job.asset, f"{event['stage']} {event['step']}/{event['steps']}")

    try:
        return insist(
            lambda: attempt_asset(sandbox, job, limits.attempts, report),
            job.part,
            limits.patience_s,
            tell=lambda sentence: board.write.remote(job.asset, sentence),
        )
    finally:
        board.write.remote(job.asset, None)


def attempt_asset(sandbox: Sandbox, job: AssetJob, attempts: int, report: Any) -> Outcome:
    """Run a job in a sandbox, again if its process dies, and make an outcome of whatever happens to it.

    Raises:
        OSError: when its part could not be written, which is not its fault.
    """
    stage = ""

    def watch(event: Event) -> None:
        nonlocal stage
        stage = event["stage"]
        report(event)

    for attempt in range(1, attempts + 1):
        try:
            end, peak_bytes = sandbox.run(job.to_json(), watch)
        except JobDied as died:
            outcome = Outcome(
                job.asset,
                died.code.state,
                died.code,
                stage=stage,
                message=str(died),
                attempts=attempt,
                peak_bytes=died.peak_bytes,
                log=died.log,
            )
            continue
        if "refused" in end:
            raise OSError(end["refused"], os.strerror(end["refused"]), str(job.part))
        outcome = replace(Outcome.from_json(end["outcome"]), attempts=attempt, peak_bytes=peak_bytes)
        if outcome.reason is not None:
            outcome = replace(outcome, log=sandbox.log_tail())
        return outcome
    return outcome


def _check_answer(address: str) -> None:
    """Refuse a cluster that is not there. Ray itself would try for a quarter of an hour, saying nothing.

    Raises:
        ConfigError: if nobody listens.
    """
    host, _, port = address.rpartition(":")
    if not host or not port.isdigit():  # "auto": Ray looks among this machine's processes
        return
    try:
        socket.create_connection((host.removeprefix("ray://").strip("[]"), int(port)), _ANSWER_S).close()
    except OSError as error:
        raise ConfigError(f"no Ray cluster answers at {address} ({error})") from error


def _told(resources: Mapping[str, float]) -> str:
    return f"{resources['CPU']:g} CPUs, {resources['GPU']:g} GPUs, {resources['memory'] / 1e9:.1f} GB"


def _innermost(error: BaseException) -> str:
    """What went wrong first, without the advice that Ray appends."""
    while error.__cause__ is not None:
        error = error.__cause__
    return re.split(r"\. (?:Note:|Last conn)", first_line(error))[0].rstrip(".")


@ray.remote(num_cpus=0, max_calls=1)
def _usable_gpus() -> list[str]:
    return find_usable_gpus()


@ray.remote(num_cpus=0, max_retries=_NODE_LOSSES)
def _write_shard(job: ShardJob) -> None:
    insist(lambda: _write_if_missing(job), job.tar, job.patience_s)
    if job.remote is not None:
        publish_shard(Store(job.remote, job.downloads), job.folder, job.tar)
    # Nobody needs them any more; an output would take twice its room until the end.
    for part in job.parts:
        part.unlink(missing_ok=True)


def _write_if_missing(job: ShardJob) -> None:
    # A lost node may have written it without living to say so.
    if read_sidecar(job.tar) is not None:
        return
    try:
        write_shard(job.tar, list(job.parts), job.facts)
    except FileNotFoundError as error:
        # A network file system may show what another node wrote a minute later.
        raise OSError(errno.ESTALE, f"{error.filename}: not there, or not yet") from error


@functools.cache
def _sandbox(limits: Limits, threads: int) -> Sandbox:
    # One per Ray worker process: that is the point, Blender's start is paid once per process.
    return Sandbox(limits, threads)


def _worker_environment() -> dict[str, Any]:
    """Lets workers import the `helix4d` that the driver runs; a Ray job's workers get the job's own copy from Ray."""
    if "RAY_JOB_CONFIG_JSON_ENV_VAR" in os.environ:
        return {}
    return {"env_vars": {"PYTHONPATH": python_path()}}
