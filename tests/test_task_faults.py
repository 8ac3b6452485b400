"""Every task that runs on Ray survives the same faults: one set of tests for all of them.

The second task of bench build, `finish`, runs as `generate` does, so its faults are left to the acceptance tests.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helix4d.core import AssetState, ConfigError, ReasonCode, StorageError
from helix4d.curation.work import ray_loop
from helix4d.curation.work.cluster import Cluster
from tests.task_chains import RUN, Chain, make_chain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    """A Ray with two CPUs."""
    with Cluster(RUN) as connection:
        yield connection


@pytest.fixture(
    scope="module", params=["curate", "encode", "generate", pytest.param("finish", marks=pytest.mark.acceptance)]
)
def chain(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Chain:
    """The tasks of a command, with faults in the named one."""
    return make_chain(request.param, tmp_path_factory.mktemp(request.param))


@pytest.fixture(autouse=True)
def _short_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray_loop, "_FIRST_PAUSE_S", 0.05)


def test_an_error_of_the_run_ends_it(chain: Chain, cluster: Cluster, tmp_path: Path) -> None:
    (name, *_) = (job.name for job in chain.jobs)
    with pytest.raises(ConfigError, match="no such model"):
        chain.run(cluster, {name: "misconfigure"}, tmp_path, jobs=1)
    with pytest.raises(StorageError, match=r"could not be written for 0\.2 s \(No space left on device\)"):
        chain.run(cluster, {name: "fill the disk"}, tmp_path, jobs=1, patience_s=0.2)


def test_faults_cost_attempts_or_jobs_but_never_the_run(chain: Chain, cluster: Cluster, tmp_path: Path) -> None:
    refused, once, always, bug = (job.name for job in chain.jobs)
    deeds = {refused: "fill the disk-once", once: "kill-once", always: "kill", bug: "raise"}
    outcomes = chain.run(cluster, deeds, tmp_path)
    stage = chain.tasks(cluster)[chain.faulty].stage
    assert (outcomes[refused].state, outcomes[refused].attempts) == (AssetState.DONE, 1), outcomes[refused]
    assert (outcomes[once].state, outcomes[once].attempts) == (AssetState.DONE, 2), outcomes[once]
    lost, raised = outcomes[always], outcomes[bug]
    assert (lost.reason, lost.attempts, lost.stage) == (ReasonCode.CRASHED, 4, stage)
    assert "was lost 4 times" in lost.message
    assert (raised.reason, raised.attempts, raised.stage) == (ReasonCode.CRASHED, 1, stage)
    assert "a bug in the task" in raised.message
    assert 'task_chains.py", line' in raised.log
    assert 'raise KeyError("a bug in the task")' in raised.log
    assert "\x1b" not in raised.log
