"""Memory that the driver uses for each asset, without Ray and without workers."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from helix4d.core import ReasonCode
from helix4d.curation import pipeline
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.events import Ended


class NoCluster:
    """Stands in for a cluster and its writer of shards."""

    gpus = 0.0

    def __init__(self, *_: Any) -> None:
        pass

    def __enter__(self) -> NoCluster:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def places(self, _: Any) -> int:
        return 2

    def start(self, job: Any) -> None:
        pipeline.write_json(job.tar.with_suffix(".json"), {})

    def check(self) -> None:
        pass

    def finish(self) -> None:
        pass


def test_jobs_are_made_when_they_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A list of all jobs would use more of the driver's memory per asset than anything else."""
    (tmp_path / "source").mkdir()
    for number in range(20):
        (tmp_path / "source" / f"{number}.glb").write_bytes(b"glTF%d" % number)
    made: list[str] = []
    made_before: list[int] = []
    asset_job = pipeline.asset_job

    def counted(config: Any, asset: Any, part: Path) -> Any:
        made.append(asset.source.name)
        assert part.is_absolute()
        return asset_job(config, asset, part)

    def run_tasks(cluster: Any, tasks: Any, jobs: Any) -> Iterator[Ended]:
        for job in jobs:
            made_before.append(len(made))
            code = ReasonCode.NO_MOTION
            yield Ended((Outcome(job.asset, code.state, code, stage="filter", message="still"),))

    monkeypatch.setattr(pipeline, "asset_job", counted)
    monkeypatch.setattr(pipeline, "run_tasks", run_tasks)
    monkeypatch.setattr(pipeline, "Cluster", NoCluster)
    monkeypatch.setattr(pipeline, "ShardWriter", NoCluster)
    monkeypatch.setattr(pipeline, "reserve_gpus", lambda *_: 0.0)
    config = CurateConfig(str(tmp_path / "source"), tmp_path / "output", SampleConfig(), RunConfig(workers=2))
    plan, _ = pipeline.plan_run(config)
    ledger = pipeline.Ledger(tmp_path / "ledger.jsonl")
    figures = pipeline._fill_shards(config, plan, ledger, pipeline.mirror_of(config))
    assert figures.ended == len(made) == len(set(made)) == 20
    assert made_before == list(range(1, 21))
