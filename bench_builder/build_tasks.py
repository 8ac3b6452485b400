"""The two tasks of `helix4d bench build`: how Ray runs the generation of videos and their finishing.

A GPU starts the next video while CPUs still finish the last one.
"""

from __future__ import annotations

import functools

from helix4d.bench_builder.jobs import finish_entry, generate_video
from helix4d.core import ConfigError
from helix4d.curation.config import RunConfig
from helix4d.curation.work.cluster import Cluster, WorkerNeeds
from helix4d.curation.work.ray_loop import Task


def build_tasks(cluster: Cluster, run: RunConfig, gpus_per_worker: float | None) -> list[Task]:
    """Return the tasks that turn an `EntryJob` into an outcome.

    Args:
        cluster: cluster that they will run on.
        run: number of workers, CPUs for finishing a video, and patience.
        gpus_per_worker: number of GPUs that generate one video; None for one if the cluster has any, else 0.

    Raises:
        ConfigError: if the cluster has fewer GPUs.
    """
    gpus = min(1.0, cluster.gpus) if gpus_per_worker is None else gpus_per_worker
    if gpus > cluster.gpus:
        raise ConfigError(
            f"--gpus-per-worker {gpus:g}: the Ray cluster has {cluster.gpus:g} GPUs; use 0 to generate on the CPU"
        )
    finishing = WorkerNeeds.of(run)
    # No CPUs: generating on a GPU hardly uses any, and it must not keep videos from being finished.
    generating = WorkerNeeds(gpus=gpus)
    most = cluster.places(generating if gpus else finishing)
    patience_s = run.limits.patience_s
    return [
        Task(
            functools.partial(generate_video, device="cuda" if gpus else "cpu", patience_s=patience_s),
            generating,
            stage="generate",
            workers=min(run.workers or most, most),
            keeps_state=True,
            patience_s=patience_s,
        ),
        Task(finish_entry, finishing, stage="finish", patience_s=patience_s),
    ]
