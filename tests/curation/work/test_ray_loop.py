"""The Ray loop, with fake tasks."""

from __future__ import annotations

import errno
import functools
import os
import signal
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from helix4d.core import AssetError, AssetState, ConfigError, FormatError, ReasonCode, StorageError
from helix4d.curation.config import RunConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work import ray_loop
from helix4d.curation.work.cluster import Cluster, WorkerNeeds
from helix4d.curation.work.events import Ended, Tick
from helix4d.curation.work.jobs import Job, Report
from helix4d.curation.work.ray_loop import Task, run_tasks

pytestmark = pytest.mark.slow


@dataclass(frozen=True)
class FakeJob:
    """A job with a name, a folder for markers, and the steps that earlier tasks of its chain have added."""

    name: str
    folder: Path
    steps: tuple[int, ...] = ()

    @property
    def target(self) -> Path:
        return self.folder / self.name


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Ray with two CPUs."""
    with Cluster(RunConfig(workers=2)) as connection:
        yield connection


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_loop, "_FIRST_PAUSE_S", 0.05)


NEEDS = WorkerNeeds(cpus=1)
TICKS = 6
"""Progress reports, half a second apart, after which no further job is expected to be taken."""


def answer(job: FakeJob, report: Report) -> Outcome:
    """Return a done outcome with the process id of the worker as its key."""
    return Outcome(job.name, AssetState.DONE, keys=(str(os.getpid()),))


def run(cluster: Cluster, tasks: list[Task], jobs: Iterator[FakeJob] | list[FakeJob]) -> dict[str, Outcome]:
    """Run all jobs; returns their outcomes by name."""
    outcomes: dict[str, Outcome] = {}
    for news in run_tasks(cluster, tasks, jobs):
        if isinstance(news, Ended):
            assert news.outcomes
            for outcome in news.outcomes:
                assert outcome.asset not in outcomes, "a job ended twice"
                outcomes[outcome.asset] = outcome
    return outcomes


def jobs_of(folder: Path, *names: str) -> list[FakeJob]:
    return [FakeJob(name, folder) for name in names]


@pytest.mark.parametrize(("workers", "most"), [(3, 3), (None, 4)])
def test_every_job_ends_once_and_few_are_taken_ahead(
    cluster: Cluster, workers: int | None, most: int, tmp_path: Path
) -> None:
    """A given number of workers is the limit; otherwise, each worker has one job in reserve."""
    taken, ended = 0, 0

    def jobs() -> Iterator[FakeJob]:
        nonlocal taken
        for number in range(60):
            taken += 1
            assert taken - ended <= most
            yield FakeJob(f"{number:03d}", tmp_path)

    names = []
    for news in run_tasks(cluster, [Task(answer, NEEDS, workers=workers)], jobs()):
        assert isinstance(news, Tick | Ended)
        if isinstance(news, Ended):
            ended += len(news.outcomes)
            names += [outcome.asset for outcome in news.outcomes]
    assert sorted(names) == [f"{number:03d}" for number in range(60)]


def test_without_jobs_the_loop_returns(cluster: Cluster) -> None:
    assert run(cluster, [Task(answer, NEEDS)], []) == {}


def misbehave(job: FakeJob, report: Report) -> Outcome:
    """Do what the job's name says."""
    deed = job.name.removesuffix("-once")
    if deed != job.name:
        try:
            job.target.touch(exist_ok=False)
        except FileExistsError:
            return answer(job, report)
    if deed == "killed":
        os.kill(os.getpid(), signal.SIGKILL)
    if deed == "allocation":
        raise MemoryError
    if deed == "disk full":
        raise OSError(errno.ENOSPC, "full")
    if deed == "asset":
        raise AssetError(ReasonCode.NO_MESH, "has no mesh", "a.glb")
    if deed == "format":
        raise FormatError("a.vxz: truncated")
    if deed == "config":
        raise ConfigError("no such model")
    raise KeyError("a bug in the task")


@pytest.mark.parametrize("keeps_state", [False, True])
@pytest.mark.parametrize(
    ("name", "reason", "attempts", "message"),
    [
        ("killed-once", None, 2, ""),
        ("killed", ReasonCode.CRASHED, 4, "was lost 4 times"),
        ("bug", ReasonCode.CRASHED, 1, "unexpected KeyError in the worker: 'a bug in the task'"),
        ("allocation", ReasonCode.OUT_OF_MEMORY, 1, "an allocation failed"),
        ("disk full-once", None, 1, ""),
        ("asset", ReasonCode.NO_MESH, 1, "a.glb: has no mesh"),
        ("format", ReasonCode.CORRUPT_FILE, 1, "a.vxz: truncated"),
    ],
)
def test_a_fault_costs_one_job_at_most(
    cluster: Cluster,
    keeps_state: bool,
    name: str,
    reason: ReasonCode | None,
    attempts: int,
    message: str,
    tmp_path: Path,
) -> None:
    task = Task(misbehave, NEEDS, stage="work", workers=1, keeps_state=keeps_state, patience_s=30)
    outcomes = run(cluster, [task], jobs_of(tmp_path, name, f"{name} again-once"))
    outcome = outcomes[name]
    assert (outcome.reason, outcome.attempts) == (reason, attempts), outcome
    assert message in outcome.message
    if reason is not None:
        assert (outcome.state, outcome.stage) == (reason.state, "work")
        assert outcome.log
    assert len(outcomes) == 2


@pytest.mark.parametrize(("name", "error"), [("config", ConfigError), ("disk full", StorageError)])
def test_an_error_of_the_run_ends_it(cluster: Cluster, name: str, error: type[Exception], tmp_path: Path) -> None:
    task = Task(misbehave, NEEDS, workers=1, patience_s=0.2)
    with pytest.raises(error):
        run(cluster, [task], jobs_of(tmp_path, name))


def extend(job: FakeJob, report: Report, step: int) -> Job | Outcome:
    """Return the job for the next task, or an outcome for the job called `early`."""
    if job.name == "early":
        return Outcome(job.name, ReasonCode.NO_MOTION.state, ReasonCode.NO_MOTION)
    return FakeJob(job.name, job.folder, (*job.steps, step))


def end_chain(job: FakeJob, report: Report) -> Outcome:
    """Return a done outcome with the steps of the chain as its keys."""
    return Outcome(job.name, AssetState.DONE, keys=tuple(map(str, job.steps)))


def test_each_job_goes_through_all_tasks_of_a_chain(cluster: Cluster, tmp_path: Path) -> None:
    chain = [
        Task(functools.partial(extend, step=1), NEEDS),
        Task(functools.partial(extend, step=2), WorkerNeeds(), workers=1, keeps_state=True),
        Task(end_chain, NEEDS),
    ]
    names = ["early", *map(str, range(30))]
    outcomes = run(cluster, chain, jobs_of(tmp_path, *names))
    assert sorted(outcomes) == sorted(names)
    assert outcomes.pop("early").reason is ReasonCode.NO_MOTION
    assert {outcome.keys for outcome in outcomes.values()} == {("1", "2")}


def wait_for_release(job: FakeJob, report: Report) -> Outcome:
    """Wait for a file called `release`."""
    while not (job.folder / "release").exists():
        time.sleep(0.02)
    return end_chain(job, report)


def test_the_backlog_between_tasks_is_bounded(
    cluster: Cluster, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_loop, "_BACKLOG", 2)
    taken = 0

    def jobs() -> Iterator[FakeJob]:
        nonlocal taken
        for number in range(12):
            taken += 1
            yield FakeJob(str(number), tmp_path)

    chain = [
        Task(functools.partial(extend, step=1), WorkerNeeds(), workers=1, keeps_state=True),
        Task(wait_for_release, WorkerNeeds(), workers=1),
    ]
    release, ticks, most_before = tmp_path / "release", 0, 0
    for news in run_tasks(cluster, chain, jobs()):
        if isinstance(news, Tick) and taken >= 3 and not release.exists():
            most_before, ticks = taken, ticks + 1
            if ticks == TICKS:
                release.touch()
    assert most_before == 3, "one runs and two wait"
    assert taken == 12


def test_a_task_that_keeps_state_has_its_own_processes(cluster: Cluster, tmp_path: Path) -> None:
    task = Task(answer, WorkerNeeds(), workers=2, keeps_state=True)
    outcomes = run(cluster, [task], jobs_of(tmp_path, *map(str, range(20))))
    kept = {outcome.keys[0] for outcome in outcomes.values()}
    assert 1 <= len(kept) <= 2
    outcomes = run(cluster, [Task(answer, NEEDS)], jobs_of(tmp_path, *map(str, range(20))))
    assert not kept & {outcome.keys[0] for outcome in outcomes.values()}


def answer_or_raise(job: FakeJob, report: Report) -> Outcome:
    """Put the process id of the worker into the message or the error."""
    if job.name == "bug":
        raise RuntimeError(f"CUDA error in process {os.getpid()}")
    return Outcome(job.name, AssetState.DONE, message=f"process {os.getpid()}")


def test_a_process_is_replaced_after_an_exception(cluster: Cluster, tmp_path: Path) -> None:
    task = Task(answer_or_raise, WorkerNeeds(), workers=1, keeps_state=True)
    outcomes = run(cluster, [task], jobs_of(tmp_path, "before", "bug", "after", "later"))
    processes = {name: outcome.message.split()[-1] for name, outcome in outcomes.items()}
    assert processes["before"] == processes["bug"] != processes["after"] == processes["later"]


def report_and_wait(job: FakeJob, report: Report) -> Outcome:
    """Report a step, then wait until a tick has shown it."""
    report(f"step of {job.name}")
    while not (job.folder / f"{job.name} was shown").exists():
        time.sleep(0.02)
    return answer(job, report)


def test_ticks_show_running_jobs(cluster: Cluster, tmp_path: Path) -> None:
    shown: dict[str, str] = {}
    for news in run_tasks(cluster, [Task(report_and_wait, NEEDS)], jobs_of(tmp_path, "a", "b")):
        if isinstance(news, Tick):
            shown.update(news.stages)
            for name in news.stages:
                (tmp_path / f"{name} was shown").touch()
    assert shown == {"a": "step of a", "b": "step of b"}
    last = [
        news for news in run_tasks(cluster, [Task(answer, NEEDS)], jobs_of(tmp_path, "c")) if isinstance(news, Tick)
    ]
    assert all("a" not in tick.stages for tick in last)


class _FakeCluster:
    def places(self, needs: WorkerNeeds) -> int:
        return 3


def test_places_follow_the_cluster_unless_a_number_is_given() -> None:
    cluster = _FakeCluster()
    assert Task(answer, NEEDS).places(cluster) == 3  # type: ignore[arg-type]
    assert Task(answer, NEEDS, workers=5).places(cluster) == 5, "nodes may join"  # type: ignore[arg-type]
    kept = Task(answer, WorkerNeeds(gpus=1), workers=5, keeps_state=True)
    assert kept.places(cluster) == 3, "a process that does not fit would hold its job forever"  # type: ignore[arg-type]
