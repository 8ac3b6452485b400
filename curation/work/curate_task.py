"""The task of `helix4d curate`: an asset becomes its part of a shard, in the sandbox of a Ray worker.

The sandbox is a child process that is kept from job to job, so that Blender starts once per Ray worker and a crash in
it costs one attempt at one asset.
"""

from __future__ import annotations

import functools
import os
import platform
from dataclasses import replace

from helix4d.core import ReasonCode, SetupError
from helix4d.curation.config import Limits, RunConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.cluster import Cluster, WorkerNeeds
from helix4d.curation.work.gpus import choose_gpus, find_usable_gpus
from helix4d.curation.work.jobs import AssetJob, Report
from helix4d.curation.work.ray_loop import Task
from helix4d.curation.work.sandbox import Event, JobDied, Sandbox
from helix4d.render import EngineOption


def curate_task(run: RunConfig, gpus: float = 0.0, device: str = "cpu") -> Task:
    """Return the task that turns an `AssetJob` into an outcome.

    Args:
        run: workers and limits.
        gpus: number of GPUs to reserve for each worker.
        device: device to render on, one of `helix4d.render.scene.settings.DEVICES`.
    """
    return Task(
        functools.partial(curate_asset, limits=run.limits, device=device),
        WorkerNeeds.of(run, gpus),
        workers=run.workers,
        patience_s=run.limits.patience_s,
    )


def reserve_gpus(cluster: Cluster, run: RunConfig, engine: EngineOption) -> float:
    """Number of GPUs to reserve for each worker: `helix4d.curation.work.gpus.choose_gpus` for this cluster.

    Raises:
        ConfigError: if the requested GPUs are missing, or Blender cannot render on them.
    """
    limit = float("inf") if cluster.can_grow else cluster.gpus
    return choose_gpus(
        run.gpus_per_worker, engine, cluster.gpus, limit, lambda gpus: list(cluster.call(find_usable_gpus, gpus))
    )


def curate_asset(job: AssetJob, report: Report, limits: Limits, device: str) -> Outcome:
    """Run a job in this worker's sandbox, again if its process dies, and turn whatever happens into an outcome.

    Raises:
        OSError: if storage fails, which is not the asset's fault.
        SetupError: if this node lacks what every asset needs.
    """
    try:
        return _attempt_asset(job, report, limits, device)
    except SetupError as error:
        raise SetupError(f"node {platform.node()}: {error}") from error


def _attempt_asset(job: AssetJob, report: Report, limits: Limits, device: str) -> Outcome:
    sandbox, content = _sandbox(limits, job.threads), replace(job, device=device).to_json()
    stage = ""

    def watch(event: Event) -> None:
        nonlocal stage
        stage = event["stage"]
        note = f" ({event['note']})" if "note" in event else ""
        report(f"{stage} {event['step']}/{event['steps']}{note}")

    for attempt in range(1, limits.attempts + 1):
        try:
            end, peak_bytes = sandbox.run(content, watch)
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
            raise OSError(end["refused"], os.strerror(end["refused"]), end["where"] or str(job.part))
        if "unfit" in end:
            raise SetupError(end["unfit"])
        outcome = replace(Outcome.from_json(end["outcome"]), attempts=attempt, peak_bytes=peak_bytes)
        if outcome.reason is not None:
            outcome = replace(outcome, log=sandbox.log_tail())
        # Blender does not say whether the asset or the GPU failed: if that is gone, a new process finds none.
        if outcome.reason is not ReasonCode.CRASHED or outcome.stage != "render" or device == "cpu":
            return outcome
    return outcome


@functools.cache
def _sandbox(limits: Limits, threads: int) -> Sandbox:
    # One per Ray worker process, so that Blender starts once per process.
    return Sandbox(limits, threads)
