"""The loop that runs jobs in this process gives the outcomes that the Ray loop gives."""

from __future__ import annotations

import errno
import os
from dataclasses import dataclass
from pathlib import Path

import pytest

from helix4d.core import AssetError, AssetState, ConfigError, FormatError, ReasonCode, StorageError
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.events import Ended, Tick
from helix4d.curation.work.jobs import Report
from helix4d.curation.work.serial_loop import run_serially


@dataclass(frozen=True)
class FakeJob:
    """A job that raises the given error, or else is done."""

    name: str
    error: Exception | None = None

    @property
    def target(self) -> Path:
        return Path(self.name)


def work(job: FakeJob, report: Report) -> Outcome:
    report("working")
    if job.error is not None:
        raise job.error
    return Outcome(job.name, AssetState.DONE)


def test_every_job_ends_in_order_with_its_outcome() -> None:
    jobs = [
        FakeJob("a"),
        FakeJob("b", FormatError("bad bytes")),
        FakeJob("c", AssetError(ReasonCode.NO_MESH, "nothing there")),
        FakeJob("d", RuntimeError("a bug")),
        FakeJob("e", MemoryError()),
        FakeJob("f"),
    ]
    news = list(run_serially(work, jobs, "encode", patience_s=0))
    assert [event.stages for event in news[::2] if isinstance(event, Tick)] == [{job.name: "encode"} for job in jobs]
    outcomes = [outcome for event in news[1::2] if isinstance(event, Ended) for outcome in event.outcomes]
    assert [(outcome.asset, outcome.state, outcome.reason) for outcome in outcomes] == [
        ("a", AssetState.DONE, None),
        ("b", AssetState.FAILED, ReasonCode.CORRUPT_FILE),
        ("c", AssetState.FAILED, ReasonCode.NO_MESH),
        ("d", AssetState.FAILED, ReasonCode.CRASHED),
        ("e", AssetState.FAILED, ReasonCode.OUT_OF_MEMORY),
        ("f", AssetState.DONE, None),
    ]
    assert outcomes[3].stage == "encode"
    assert "a bug" in outcomes[3].log
    assert "in work" in outcomes[3].log, "the log is the traceback"


@pytest.mark.parametrize(
    ("error", "raised"),
    [(ConfigError("no such models"), ConfigError), (OSError(errno.ENOSPC, os.strerror(errno.ENOSPC)), StorageError)],
)
def test_an_error_of_the_whole_run_ends_it(error: Exception, raised: type[Exception]) -> None:
    started = []

    def counted(job: FakeJob, report: Report) -> Outcome:
        started.append(job.name)
        return work(job, report)

    with pytest.raises(raised):
        list(run_serially(counted, [FakeJob("a", error), FakeJob("b")], "encode", patience_s=0))
    assert set(started) == {"a"}
