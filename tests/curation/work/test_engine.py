from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import ray

from helix4d.core import AssetState, ConfigError, ReasonCode, StorageError
from helix4d.curation.config import Limits, RunConfig, SampleConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.shard import ShardReader, write_part
from helix4d.curation.work import engine
from helix4d.curation.work.engine import Ended, Engine, Tick, _write_shard
from helix4d.curation.work.jobs import AssetJob, ShardJob
from tests.curation.shards.test_shard import sample

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


def test_a_part_of_another_node_may_show_late(tmp_path: Path) -> None:
    part, late = tmp_path / "a.part", tmp_path / "late.part"
    write_part(late, [sample("aa_0")])
    job = ShardJob(tmp_path / "x.tar", (part,), {"gaps": []}, patience_s=0.2)
    with pytest.raises(StorageError, match="Stale file handle"):
        _write_shard._function(job)
    threading.Timer(0.7, lambda: late.rename(part)).start()
    _write_shard._function(replace(job, patience_s=30))
    assert ShardReader(job.tar).keys() == ["aa_0"]
    assert not part.exists()
    _write_shard._function(job)  # Ray begins it again if its node is lost at the end


def test_a_machine_without_room_for_a_worker_is_told_so() -> None:
    connection = Engine(RunConfig(workers=1, memory_gb_per_worker=1e6))
    with pytest.raises(ConfigError, match="lower --cpus-per-worker"), connection:
        pass
    assert not ray.is_initialized()


def test_a_cluster_that_is_not_there_is_refused_at_once() -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
        with pytest.raises(ConfigError, match=f"no Ray cluster answers at {address}"), Engine(RunConfig(address)):
            pass


def test_a_cluster_that_refuses_our_token_is_named() -> None:
    # A process of its own: a Ray that once had a token mode keeps it.
    head = [sys.executable, "-c", _HEAD.format(mode="token")]
    joins = [sys.executable, "-c", _JOINS.format(mode="disabled")]
    clean = {name: value for name, value in os.environ.items() if not name.startswith("RAY_")}
    with subprocess.Popen(head, env=clean, stdout=subprocess.PIPE, stdin=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        address = next(line for line in process.stdout if line.startswith("at ")).split()[1]
        ended = subprocess.run([*joins, address], env=clean, capture_output=True, text=True, timeout=120, check=False)
        process.communicate("done")
    assert "no connection to the Ray cluster" in ended.stdout, ended.stderr
    assert "RAY_AUTH_TOKEN_PATH" in ended.stdout


_HEAD = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "{mode}"
import ray
context = ray.init(address="local", num_cpus=1, include_dashboard=False, log_to_driver=False)
print("at", context.address_info["gcs_address"], flush=True)
sys.stdin.read()
"""
_JOINS = """
import os, sys
os.environ["RAY_AUTH_MODE"] = "{mode}"
from helix4d.core import ConfigError
from helix4d.curation.config import RunConfig
from helix4d.curation.work.engine import Engine
try:
    with Engine(RunConfig(sys.argv[1])):
        pass
except ConfigError as error:
    print(error)
"""


def test_workers_of_a_cluster_find_the_checkout_before_a_folder_called_like_a_package(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """An editable install comes last on their path, the driver's folder, which may hold `assets/`, before it."""
    monkeypatch.delenv("RAY_JOB_CONFIG_JSON_ENV_VAR", raising=False)
    path = engine._worker_environment()["env_vars"]["PYTHONPATH"].split(os.pathsep)
    assert (Path(path[0]) / "assets" / "__init__.py").exists()
    monkeypatch.setenv("RAY_JOB_CONFIG_JSON_ENV_VAR", "{}")
    assert engine._worker_environment() == {}, "a job brings its own copy of the code"
