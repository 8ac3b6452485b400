"""The real tasks of curate, encode and bench build with four small jobs each, and faults to inject into them."""

from __future__ import annotations

import errno
import functools
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets import content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import ConfigError
from helix4d.curation.config import RunConfig, SampleConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.curate_task import curate_task
from helix4d.curation.work.events import Ended
from helix4d.curation.work.jobs import AssetJob, Job, Report
from helix4d.curation.work.ray_loop import Task, run_tasks

RUN = RunConfig(workers=2)
NAMES = ["flag", "butterfly", "ladybug", "caterpillar"]


@dataclass(frozen=True)
class Chain:
    """The tasks of a command, and jobs for them.

    Attributes:
        tasks: function from a cluster to the tasks.
        jobs: four jobs.
        faulty: index of the task in which faults happen.
    """

    tasks: Callable[[Cluster], Sequence[Task]]
    jobs: Sequence[Job]
    faulty: int = 0

    def run(
        self, cluster: Cluster, deeds: Mapping[str, str], folder: Path, jobs: int = 4, patience_s: float = 60.0
    ) -> dict[str, Outcome]:
        """Outcomes of the first jobs, by name.

        Args:
            cluster: cluster to run them on.
            deeds: name of a job -> fault that happens when it starts, see `do`.
            folder: folder for markers of the faults that have happened.
            jobs: number of jobs.
            patience_s: seconds to wait for storage.
        """
        tasks = list(self.tasks(cluster))
        task = tasks[self.faulty]
        faulty = functools.partial(do, task.run, dict(deeds), folder)
        tasks[self.faulty] = replace(task, run=faulty, patience_s=patience_s)
        outcomes: dict[str, Outcome] = {}
        for news in run_tasks(cluster, tasks, self.jobs[:jobs]):
            if isinstance(news, Ended):
                outcomes.update((outcome.asset, outcome) for outcome in news.outcomes)
        return outcomes


def do(run: Callable[[Any, Report], Any], deeds: Mapping[str, str], folder: Path, job: Job, report: Report) -> Any:
    """Cause a job's fault, then run the job. A fault whose name ends in `-once` happens at the first attempt only."""
    deed, once, _ = deeds.get(job.name, "").partition("-once")
    if once:
        try:
            (folder / f"{job.name}.happened").touch(exist_ok=False)
        except FileExistsError:
            deed = ""
    if deed == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    elif deed == "hang":
        time.sleep(600)
    elif deed == "raise":
        raise KeyError("a bug in the task")
    elif deed == "fill the disk":
        raise OSError(errno.ENOSPC, "full")
    elif deed == "misconfigure":
        raise ConfigError("no such model")
    return run(job, report)


def make_chain(name: str, folder: Path) -> Chain:
    """The chain of a command: `curate`, `encode`, `generate` or `finish`, the last two of bench build."""
    if name == "curate":
        return _curate(folder)
    pytest.importorskip("torch")
    if name == "encode":
        return _encode(folder)
    pytest.importorskip("diffusers")
    pytest.importorskip("rembg")
    return _build(folder, faulty=("generate", "finish").index(name))


def _curate(folder: Path) -> Chain:
    config = SampleConfig(resolution=32, frames=4, views=0)
    jobs = []
    for name in NAMES:
        path = folder / f"{name}.glb"
        path.write_bytes(SAMPLES[name]())
        jobs.append(AssetJob(path.name, path, content_hash(path), folder / f"{name}.part", config))
    return Chain(lambda _: [curate_task(RUN)], jobs)


def _encode(folder: Path) -> Chain:
    from helix4d.train.latents.encode import EncodeConfig, _job, plan_shards
    from helix4d.train.latents.encode_task import encode_task
    from helix4d.train.latents.jobs import LatentConfig
    from tests.train.world import write_models, write_shards

    shards, models = write_shards(folder / "shards", NAMES), write_models(folder / "models")
    config = EncodeConfig(shards, folder / "latents", str(models), latents=LatentConfig(occupancy_resolution=8))
    jobs = [_job(config, shard, key) for shard in plan_shards(shards) for key in shard.keys]
    return Chain(lambda _: [encode_task(RUN)], jobs)


def _build(folder: Path, faulty: int) -> Chain:
    from helix4d.bench_builder import read_manifest
    from helix4d.bench_builder.build import _job, plan_build
    from helix4d.bench_builder.build_tasks import build_tasks
    from tests.bench_builder.tiny_wan import write_a14b
    from tests.bench_builder.world import World

    world = World(folder, write_a14b(folder / "a14b"))
    config, manifest = world.config(folder / "bench"), read_manifest(world.manifest)
    checkpoint, settings = plan_build(config, manifest)
    jobs = [_job(config, manifest, entry, world.stills, checkpoint, settings) for entry in manifest.entries]
    return Chain(lambda cluster: build_tasks(cluster, RUN, None), jobs, faulty)
