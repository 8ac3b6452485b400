from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path

import pytest

from helix4d.core import StorageError
from helix4d.curation.config import RunConfig
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import write_part
from helix4d.curation.work.cluster import Cluster
from helix4d.curation.work.jobs import ShardJob
from helix4d.curation.work.make_shard import make_shard
from helix4d.curation.work.shard_writer import ShardWriter
from tests.curation.shards.test_shard import sample

FACTS = {"split": "train", "config": {}, "config_sha256": "0" * 64, "tools": {}, "gaps": []}


def test_a_part_that_another_node_wrote_may_appear_late(tmp_path: Path) -> None:
    part, late = tmp_path / "a.part", tmp_path / "late.part"
    write_part(late, [sample("aaaaaaaaaaaaaaaa_0")])
    job = ShardJob(tmp_path / "x.tar", (part,), FACTS, patience_s=0.2)
    with pytest.raises(StorageError, match="Stale file handle"):
        make_shard(job)
    threading.Timer(0.7, lambda: late.rename(part)).start()
    make_shard(replace(job, patience_s=30))
    assert ShardReader(job.tar).keys() == ["aaaaaaaaaaaaaaaa_0"]
    assert not part.exists()
    make_shard(job)  # Ray runs it again if its node is lost at the end


@pytest.mark.slow
def test_a_shard_that_cannot_be_written_ends_the_run(tmp_path: Path) -> None:
    part = tmp_path / "a.part"
    write_part(part, [sample("aaaaaaaaaaaaaaaa_0")])
    job = ShardJob(tmp_path / "x.tar", (part,), FACTS)
    with Cluster(RunConfig(workers=1)) as cluster:
        writer = ShardWriter(cluster)
        writer.start(job)
        writer.finish()
        assert ShardReader(job.tar).keys() == ["aaaaaaaaaaaaaaaa_0"]
        writer.start(ShardJob(tmp_path / "y.tar", (tmp_path / "missing.part",), FACTS, patience_s=0.2))
        with pytest.raises(StorageError, match=r"y\.tar: could not be written for 0\.2 s"):
            writer.finish()
