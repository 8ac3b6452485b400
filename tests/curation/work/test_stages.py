from __future__ import annotations

import errno
import weakref
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets import bake_clips, content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState, ConfigError, ReasonCode
from helix4d.curation.config import SampleConfig
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import Sample, part_members, write_shard
from helix4d.curation.work import stages, worker
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock, process_asset

FACTS = {"split": "train", "config": {}, "config_sha256": "0" * 64, "tools": {}, "gaps": []}


def members(folder: Path, **settings: Any) -> dict[str, bytes]:
    """Members of the sample that the stages make from a sample asset, by name."""
    folder.mkdir()
    asset = folder / "ladybug.glb"
    asset.write_bytes(SAMPLES["ladybug"]())
    config = SampleConfig(resolution=32, frames=2, views=1, image_size=48, **settings)
    job = AssetJob(asset.name, asset, content_hash(asset), folder / "part", config, device="cpu")
    assert process_asset(job, Clock(lambda event: None)).state is AssetState.DONE
    write_shard(folder / "one.tar", [job.part], FACTS)
    reader = ShardReader(folder / "one.tar")
    (key,) = reader.keys()
    return {name: reader.read(key, name) for name in reader.members(key)}


def test_the_preset_changes_only_the_images(tmp_path: Path) -> None:
    train, again, draft = (
        members(tmp_path / name, preset=preset)
        for name, preset in [("train", "train"), ("again", "train"), ("draft", "draft")]
    )
    assert train == again
    assert {name for name in train if train[name] != draft[name]} == {
        "clip.json",  # it names the configuration
        "view_00_frame_00.webp",
        "view_00_frame_01.webp",
    }


def test_the_rasterizer_has_no_presets() -> None:
    with pytest.raises(ConfigError, match="no quality presets"):
        SampleConfig(engine="raster", preset="draft")


def job_of(folder: Path) -> AssetJob:
    asset = folder / "ladybug.glb"
    asset.write_bytes(SAMPLES["ladybug"]())
    config = SampleConfig(resolution=32, frames=4, views=0)
    return AssetJob(asset.name, asset, content_hash(asset), folder / "part", config, device="cpu")


def test_a_file_that_changed_after_planning_fails(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    for content in (SAMPLES["smoke_puff"](), b"half of a fi"):
        job.path.write_bytes(content)
        outcome = worker._work(job, Clock(lambda event: None))
        assert (outcome.reason, outcome.stage) == (ReasonCode.CHECKSUM_MISMATCH, "bake")
        assert f"planned as {job.content_sha256}" in outcome.message
    job.path.unlink()
    outcome = worker._work(job, Clock(lambda event: None))
    assert outcome.reason is ReasonCode.DOWNLOAD_FAILED
    assert "no longer exists" in outcome.message
    assert not job.part.exists()


def test_a_missing_file_server_is_not_blamed_on_the_asset(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)

    def away(path: Path) -> str:
        raise OSError(errno.ESTALE, "stale")

    monkeypatch.setattr(stages, "content_hash", away)
    with pytest.raises(worker._Refused) as refused:
        worker._work(job, Clock(lambda event: None))
    assert refused.value.errno == errno.ESTALE


def test_clips_of_a_file_are_in_memory_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    job = replace(job, config=replace(job.config, clip="all"))
    (bird,) = bake_clips(job.path, frames=4)
    monkeypatch.setattr(stages, "bake_clips", lambda *_, **__: [replace(bird, index=index) for index in range(11)])
    plain, made = stages._make_sample, list[weakref.ref[Sample]]()

    def make(*arguments: Any) -> Sample:
        assert not any(reference() for reference in made)
        sample = plain(*arguments)
        made.append(weakref.ref(sample))
        return sample

    monkeypatch.setattr(stages, "_make_sample", make)
    (tmp_path / ".part.abc.tmp").write_bytes(b"of an attempt that was killed")
    outcome = process_asset(job, Clock(lambda event: None))
    prefix = job.content_sha256[:16]
    assert list(outcome.keys) == sorted(f"{prefix}_{index}" for index in range(11))
    assert part_members(job.part) == [
        f"{key}.{name}" for key in outcome.keys for name in ["clip.json", *(f"frame_{n:02d}.vxz" for n in range(4))]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ladybug.glb", "part"]


def test_storage_that_refuses_a_part_is_not_blamed_on_the_asset(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job = replace(job, part=Path("/proc/part"))  # takes no files
    with pytest.raises(OSError, match="proc"):
        process_asset(job, clock := Clock(lambda event: None))
    assert clock.stage == "pack"
