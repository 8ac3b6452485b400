from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import ray

from core import AssetState, ConfigError, ReasonCode
from curation import engine
from curation.config import Limits, RunConfig, SampleConfig
from curation.engine import Ended, Engine, Tick
from curation.jobs import AssetJob
from curation.ledger import Outcome

pytestmark = pytest.mark.slow


@ray.remote
def _answer(job: AssetJob, limits: Limits, board: Any) -> Outcome:
    if job.asset == "bug":
        raise KeyError("a bug of ours")
    return Outcome(job.asset, AssetState.DONE)


@pytest.fixture
def work(tmp_path: Any, monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[Outcome]]:
    """Runs assets of the given names through tasks that answer at once; notes how far ahead jobs are taken."""
    monkeypatch.setattr(engine, "_work_on_asset", _answer)

    def run(names: list[str], most: int) -> list[Outcome]:
        taken, ended = 0, 0

        def jobs() -> Iterator[AssetJob]:
            nonlocal taken
            for name in names:
                taken += 1
                assert taken - ended <= most, "more was begun than there are places for"
                yield AssetJob(name, tmp_path / name, "0" * 64, tmp_path / f"{name}.part", SampleConfig())

        outcomes: list[Outcome] = []
        with Engine(RunConfig(workers=most)) as connection:
            for news in connection.work(jobs()):
                assert isinstance(news, Tick | Ended)
                if isinstance(news, Ended):
                    assert news.outcomes
                    ended += len(news.outcomes)
                    outcomes += news.outcomes
        return outcomes

    return run


def test_every_job_ends_once_and_few_are_begun_ahead(work: Callable[..., list[Outcome]]) -> None:
    names = [f"{number:03d}" for number in range(100)]
    outcomes = work([*names, "bug"], most=3)
    assert sorted(outcome.asset for outcome in outcomes) == [*names, "bug"]
    (bug,) = [outcome for outcome in outcomes if outcome.state is not AssetState.DONE]
    assert (bug.asset, bug.reason) == ("bug", ReasonCode.CRASHED)
    assert "a bug of ours" in bug.message
    assert "KeyError" in bug.log


def test_a_machine_without_room_for_a_worker_is_told_so() -> None:
    connection = Engine(RunConfig(workers=1, memory_gb_per_worker=1e6))
    with pytest.raises(ConfigError, match="lower --cpus-per-worker"), connection:
        pass
    assert not ray.is_initialized()
