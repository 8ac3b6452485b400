"""The one file of `train/` that knows Ray: clips become tasks, on GPUs where some are given."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

import ray

from helix4d.core import AssetState, ReasonCode
from helix4d.curation.config import RunConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.engine import Engine
from helix4d.train.latents.jobs import EncodeJob, encode_sample

_WAIT_S = 1.0
_NODE_LOSSES = 3
_QUEUED = 2


class EncodeEngine(Engine):
    """A connection to Ray whose tasks encode clips; encoders stay loaded in each worker process."""

    def __init__(self, run: RunConfig) -> None:
        super().__init__(run)
        self._resources = run

    def encode(self, jobs: Iterable[EncodeJob]) -> Iterator[Outcome]:
        """Run the jobs; outcomes come in the order in which they end."""
        run = self._resources
        task = _encode.options(num_cpus=run.cpus_per_worker, num_gpus=run.gpus_per_worker, max_retries=_NODE_LOSSES)
        slots = run.workers or max(1, int(ray.cluster_resources().get("CPU", 1)) // run.cpus_per_worker)
        waiting = iter(jobs)
        running: dict[Any, EncodeJob] = {}
        while True:
            while len(running) < _QUEUED * slots and (job := next(waiting, None)) is not None:
                running[task.remote(job)] = job
            if not running:
                return
            ended, _ = ray.wait(list(running), timeout=_WAIT_S)
            for reference in ended:
                yield _outcome(reference, running.pop(reference))


def _outcome(reference: Any, job: EncodeJob) -> Outcome:
    try:
        outcome: Outcome = ray.get(reference)
    except ray.exceptions.WorkerCrashedError as error:
        code = ReasonCode.CRASHED
        message = f"its worker died {_NODE_LOSSES + 1} times: {error}"
    except ray.exceptions.OutOfMemoryError as error:
        code, message = ReasonCode.OUT_OF_MEMORY, str(error)
    else:
        return outcome
    return Outcome(job.key, AssetState.FAILED, code, stage="encode", message=message)


@ray.remote
def _encode(job: EncodeJob) -> Outcome:
    return encode_sample(job)
