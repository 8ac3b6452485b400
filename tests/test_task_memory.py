"""Ray's out-of-memory killer costs a job of any task its attempts, and then the job fails."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from helix4d.core import ReasonCode
from helix4d.curation.work import ray_loop
from helix4d.curation.work.cluster import Cluster
from tests.task_chains import RUN, make_chain

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def full_cluster() -> Iterator[Cluster]:
    """A Ray with a memory limit so low that it kills every worker within a fraction of a second."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_memory_usage_threshold", "0.0001")
        patch.setenv("RAY_memory_monitor_refresh_ms", "100")
        with Cluster(RUN) as connection:
            yield connection


@pytest.mark.parametrize(
    "name", ["curate", *(pytest.param(name, marks=pytest.mark.acceptance) for name in ("encode", "generate"))]
)
def test_a_job_that_is_always_killed_for_memory_fails(
    full_cluster: Cluster, name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ray_loop, "_FIRST_PAUSE_S", 0.05)
    chain = make_chain(name, tmp_path)
    job = chain.jobs[0].name
    (outcome,) = chain.run(full_cluster, {job: "hang"}, tmp_path, jobs=1).values()
    assert (outcome.asset, outcome.reason, outcome.attempts) == (job, ReasonCode.OUT_OF_MEMORY, 4)
    assert "the node ran out of memory" in outcome.message
