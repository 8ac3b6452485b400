"""Runs jobs one after another in this process: what `ray_loop.py` does on a cluster, for one machine without Ray."""

from __future__ import annotations

import logging
import traceback
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

from helix4d.core import insist
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.events import Ended, Tick, outcome_of_exception
from helix4d.curation.work.jobs import Job, Report

log = logging.getLogger(__name__)


def run_serially(
    run: Callable[[Any, Report], Outcome], jobs: Iterable[Job], stage: str, patience_s: float
) -> Iterator[Ended | Tick]:
    """Run jobs in order; each ends in exactly one outcome, with a tick before it.

    Args:
        run: the work, as in `helix4d.curation.work.ray_loop.Task`.
        jobs: the jobs.
        stage: stage to display, and to record in the outcome of a job that raises.
        patience_s: seconds to wait for storage that refuses writes.

    Raises:
        StorageError: if storage refuses writes for longer than that. Finished jobs are kept.
        Helix4DError: any other error that concerns the whole run.
    """
    for job in jobs:
        yield Tick({job.name: stage})
        report = partial(log.debug, "%s: %s", job.name)
        try:
            outcome = insist(partial(run, job, report), job.target, patience_s)
        except Exception as error:  # noqa: BLE001 (whatever a job raises becomes its outcome, as on Ray)
            outcome = outcome_of_exception(error, job, traceback.format_exc(), stage)
        yield Ended((outcome,))
