"""The one file that knows Ray: assets and shards become Ray tasks, Ray's scheduler places them.

A task runs its asset in the Ray worker's sandbox, a child process that survives from task to task, so Blender starts
once per Ray worker and its death costs one attempt at one asset. If a whole node is lost, Ray runs its tasks again.
"""

from __future__ import annotations

import functools
import os
import time
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Self

import ray

from curation.config import Limits, RunConfig
from curation.jobs import AssetJob, ShardJob
from curation.ledger import Outcome
from curation.mirror import publish_shard
from curation.sandbox import Event, JobDied, Sandbox
from curation.shard import write_shard
from curation.store import Store

_TICK_S = 0.5
_REPORT_EVERY_S = 0.5
_NODE_LOSSES = 3


@dataclass(frozen=True)
class Tick:
    """Nothing ended for a while; what is being worked on: asset -> `stage step/steps`."""

    stages: Mapping[str, str]


class Engine:
    """A connection to Ray, as a context manager.

    Args:
        run: address, workers, resources and limits.
    """

    def __init__(self, run: RunConfig) -> None:
        self._run = run

    def __enter__(self) -> Self:
        os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
        address = self._run.address or os.environ.get("RAY_ADDRESS")
        common: dict[str, Any] = {"log_to_driver": False, "logging_level": "warning"}
        if address:
            ray.init(address=address, **common)
        else:
            workers = self._run.workers or max(1, (os.cpu_count() or 1) // self._run.cpus_per_worker)
            ray.init(
                address="local",
                num_cpus=workers * self._run.cpus_per_worker,
                include_dashboard=False,
                # A checkout that is not installed must be found by the workers as the driver found it.
                runtime_env={"env_vars": {"PYTHONPATH": _search_path()}},
                **common,
            )
        # Losing its node must not end the run: a new, empty board takes its place.
        board = ray.remote(num_cpus=0, max_restarts=-1, max_task_retries=-1)(_Board)
        self._board: Any = board.remote()
        return self

    def __exit__(self, *_: object) -> None:
        ray.shutdown()

    def work(self, jobs: Iterable[AssetJob]) -> Iterator[Outcome | Tick]:
        """Run the jobs; outcomes come in the order in which they end, ticks in between."""
        run = self._run
        task = _work_on_asset.options(
            num_cpus=run.cpus_per_worker, num_gpus=run.gpus_per_worker, max_retries=_NODE_LOSSES
        )
        waiting = iter(jobs)
        running: dict[Any, AssetJob] = {}
        while True:
            # Enough for every slot and one in reserve each: more would only fill the driver's memory.
            for job in waiting:
                running[task.remote(job, run.limits, self._board)] = job
                if len(running) >= self._most_running():
                    break
            if not running:
                return
            ended, _ = ray.wait(list(running), timeout=_TICK_S)
            stages: Any = ray.get(self._board.snapshot.remote())
            yield Tick(stages)
            for reference in ended:
                running.pop(reference)
                yield ray.get(reference)

    def start_shard(self, job: ShardJob) -> Any:
        """Begin to write a shard somewhere in the cluster; give what comes back to `finish_shards`."""
        return _write_shard.remote(job)

    def finish_shards(self, handles: list[Any]) -> None:
        """Wait until the shards are written; an error of one of them is raised here."""
        ray.get(handles)

    def _most_running(self) -> int:
        if self._run.workers:
            return self._run.workers
        return 2 * max(1, int(ray.cluster_resources().get("CPU", 1)) // self._run.cpus_per_worker)


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
        return attempt_asset(sandbox, job, limits.attempts, report)
    finally:
        board.write.remote(job.asset, None)


def attempt_asset(sandbox: Sandbox, job: AssetJob, attempts: int, report: Any) -> Outcome:
    """Run a job in a sandbox, again if its process dies, and make an outcome of whatever happens."""
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
        outcome = replace(Outcome.from_json(end["outcome"]), attempts=attempt, peak_bytes=peak_bytes)
        if outcome.reason is not None:
            outcome = replace(outcome, log=sandbox.log_tail())
        return outcome
    return outcome


@ray.remote(num_cpus=0, max_retries=_NODE_LOSSES)
def _write_shard(job: ShardJob) -> None:
    write_shard(job.tar, list(job.parts), job.facts)
    if job.remote is not None:
        publish_shard(Store(job.remote, job.downloads), job.folder, job.tar)


@functools.cache
def _sandbox(limits: Limits, threads: int) -> Sandbox:
    # One per Ray worker process: that is the point, Blender's start is paid once per process.
    return Sandbox(limits, threads)


def _search_path() -> str:
    packages = str(Path(__file__).resolve().parent.parent)
    return os.pathsep.join([packages, *filter(None, [os.environ.get("PYTHONPATH")])])
