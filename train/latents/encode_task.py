"""The task of `helix4d encode`: how Ray runs the encoding of a clip."""

from __future__ import annotations

from helix4d.curation.config import RunConfig
from helix4d.curation.work.cluster import WorkerNeeds
from helix4d.curation.work.ray_loop import Task
from helix4d.train.latents.jobs import encode_sample


def encode_task(run: RunConfig) -> Task:
    """Return the task that turns an `EncodeJob` into an outcome.

    On the CPU, encoders stay loaded in Ray's processes, whichever runs the next clip. On GPUs each worker is a process
    of its own: Ray could otherwise give a process that holds encoders on one GPU the next clip on another.
    """
    gpus = run.gpus_per_worker or 0.0
    return Task(
        encode_sample,
        WorkerNeeds.of(run, gpus),
        stage="encode",
        workers=run.workers,
        keeps_state=gpus > 0,
        patience_s=run.limits.patience_s,
    )
