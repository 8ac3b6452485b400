from __future__ import annotations

import errno
import importlib.util
import io
import os
import subprocess
import tempfile
import weakref
import zipfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from PIL import Image

from helix4d.assets import archive, bake_clips, content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetState, ConfigError, ReasonCode
from helix4d.curation.config import CurateConfig, Limits, RunConfig, SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig, MeasuredClip, Refusal
from helix4d.curation.plan.plan import PlannedAsset
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.writer import Sample, part_members, write_shard
from helix4d.curation.sources.listing import SourceAsset
from helix4d.curation.work import stages, worker
from helix4d.curation.work.jobs import AssetJob, asset_job
from helix4d.curation.work.stages import Clock, process_asset
from tests.assets.glb import moving_tetrahedron
from tests.assets.test_skeleton import rigged
from tests.mounts import mounted, needs_mounts

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


def test_a_sample_records_the_skeleton_and_the_up_axis(tmp_path: Path) -> None:
    """They are in `clip.json` and in the index, next to the metadata of the source."""
    asset = rigged(["hip", "knee"]).write(tmp_path)
    metadata = {"tags": ["animal"], "caption": {"overall": "A pyramid"}}
    config = SampleConfig(resolution=32, frames=2, views=0, filters=FilterConfig(where="tags contains 'animal'"))
    job = AssetJob(asset.name, asset, content_hash(asset), tmp_path / "part", config, metadata=metadata, device="cpu")
    assert process_asset(job, Clock(lambda event: None)).state is AssetState.DONE
    write_shard(tmp_path / "one.tar", [job.part], FACTS)
    reader = ShardReader(tmp_path / "one.tar")
    (key,) = reader.keys()
    for record in (reader.clip(key), reader.sample(key)):
        assert record["skeleton"] == {"joints": 2, "names": ["hip", "knee"], "skinned": True}
        assert record["up_axis"] == "Y"
    assert reader.clip(key)["metadata"] == metadata


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


def test_a_file_without_read_permission_is_a_failed_download(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)

    def forbidden(path: Path) -> str:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(path))

    monkeypatch.setattr(stages, "content_hash", forbidden)
    outcome = worker._work(job, Clock(lambda event: None))
    assert outcome.reason is ReasonCode.DOWNLOAD_FAILED
    assert "ladybug.glb: cannot be read (Permission denied)" in outcome.message


def _archive_job(folder: Path, **settings: Any) -> AssetJob:
    asset = folder / "ladybug.zip"
    with zipfile.ZipFile(asset, "w") as packed:
        packed.writestr("ladybug.glb", SAMPLES["ladybug"]())
    config = SampleConfig(resolution=32, frames=2, **{"views": 0, **settings})
    return AssetJob(asset.name, asset, content_hash(asset), folder / "part", config, device="cpu")


@needs_mounts
def test_a_full_temporary_folder_is_not_blamed_on_the_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = _archive_job(tmp_path)
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", "size=32k", "tmpfs"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
        with pytest.raises(worker._Refused) as refused:
            worker._work(job, Clock(lambda event: None))
        assert refused.value.errno == errno.ENOSPC
        assert refused.value.where is not None
        assert Path(refused.value.where).is_relative_to(tmp_path / "small")
        subprocess.run(["mount", "-o", "remount,size=8m", str(tmp_path / "small")], check=True)
        assert worker._work(job, Clock(lambda event: None)).state is AssetState.DONE


@needs_mounts
@pytest.mark.parametrize(
    ("engine", "passes", "room"),
    [("cycles", False, "64k"), ("cycles", True, "64k"), ("blenderproc", False, "8k"), ("blenderproc", True, "16k")],
)
def test_a_full_temporary_folder_is_not_blamed_on_the_rendered_asset(
    engine: Any, passes: bool, room: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if engine == "blenderproc" and importlib.util.find_spec(engine) is None:
        pytest.skip("the extra blenderproc is not installed")
    job = job_of(tmp_path)
    config = replace(job.config, frames=2, views=1, image_size=128, preset="draft", passes=passes, engine=engine)
    job = replace(job, config=config)
    with mounted(tmp_path / "small", "-t", "tmpfs", "-o", f"size={room}", "tmpfs"):
        monkeypatch.setattr(tempfile, "tempdir", str(tmp_path / "small"))
        with pytest.raises(worker._Refused) as refused:
            worker._work(job, clock := Clock(lambda event: None))
        assert (refused.value.errno, clock.stage) == (errno.ENOSPC, "render")
        subprocess.run(["mount", "-o", "remount,size=64m", str(tmp_path / "small")], check=True)
        assert worker._work(job, Clock(lambda event: None)).state is AssetState.DONE


@pytest.mark.parametrize("number", [errno.ENOSPC, errno.EDQUOT, errno.EIO, errno.EROFS, errno.ESTALE, errno.EMFILE])
def test_the_run_waits_for_storage_that_fails_while_an_asset_is_read(
    number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number))

    packed, plain = _archive_job(tmp_path), job_of(tmp_path)
    for job, target, name in (
        (packed, tempfile, "TemporaryDirectory"),
        (packed, archive, "open"),
        (plain, Path, "read_bytes"),
        (plain, Path, "stat"),
    ):
        with monkeypatch.context() as patch, pytest.raises(worker._Refused) as refused:
            patch.setattr(target, name, fail, raising=False)
            worker._work(job, Clock(lambda event: None))
        assert refused.value.errno == number, name
        assert not job.part.exists()


def test_the_run_waits_for_its_own_folder_without_permission(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object, **__: object) -> None:
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), "/tmp")

    monkeypatch.setattr(tempfile, "TemporaryDirectory", fail)
    with pytest.raises(worker._Refused) as refused:
        worker._work(_archive_job(tmp_path), Clock(lambda event: None))
    assert (refused.value.errno, refused.value.where) == (errno.EACCES, "/tmp")


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TGA", "TIFF"])
def test_warnings_about_unsupported_images_are_the_same_in_every_run(kind: str, tmp_path: Path) -> None:
    stream = io.BytesIO()
    Image.new("RGB", (4, 4), "red").save(stream, kind)
    builder = moving_tetrahedron()
    builder.gltf["images"] = [{"bufferView": builder.view(stream.getvalue())}]
    builder.gltf["textures"] = [{"source": 0}]
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    builder.primitive["material"] = 0
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor([[0, 0], [1, 0], [0, 1], [1, 1]])
    path = builder.write(tmp_path)
    config = SampleConfig(resolution=32, frames=2, views=0)
    job = AssetJob(path.name, path, content_hash(path), tmp_path / "part", config, device="cpu")
    parts, outcomes = [], []
    for _ in range(2):
        outcomes.append(process_asset(job, Clock(lambda event: None)))
        parts.append(job.part.read_bytes())
    assert parts[0] == parts[1]
    assert outcomes[0].warnings == outcomes[1].warnings
    (warning,) = outcomes[0].warnings
    assert "cannot be decoded" in warning
    assert "0x" not in warning


def test_clips_of_a_file_are_in_memory_one_at_a_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = job_of(tmp_path)
    job = replace(job, config=replace(job.config, clip="all"))
    (bird,) = bake_clips(job.path, frames=4)
    monkeypatch.setattr(stages, "bake_clips", lambda *_, **__: [replace(bird, index=index) for index in range(11)])
    plain, made = stages._make_sample, list[weakref.ref[Sample]]()

    def make(*arguments: Any) -> tuple[Sample | None, Refusal | None, MeasuredClip]:
        assert not any(reference() for reference in made)
        sample, refusal, measured = plain(*arguments)
        assert sample is not None
        made.append(weakref.ref(sample))
        return sample, refusal, measured

    monkeypatch.setattr(stages, "_make_sample", make)
    (tmp_path / ".part.abc.tmp").write_bytes(b"of an attempt that was killed")
    outcome = process_asset(job, Clock(lambda event: None))
    prefix = job.content_sha256[:16]
    assert list(outcome.keys) == sorted(f"{prefix}_{index}" for index in range(11))
    assert part_members(job.part) == [
        f"{key}.{name}" for key in outcome.keys for name in ["clip.json", *(f"frame_{n:02d}.vxz" for n in range(4))]
    ]
    assert sorted(path.name for path in tmp_path.iterdir()) == ["ladybug.glb", "part"]


def test_an_asset_that_cannot_fit_in_memory_is_refused_with_a_reason(tmp_path: Path) -> None:
    job = AssetJob.from_json(replace(job_of(tmp_path), memory_gb=1e-6).to_json())
    outcome = worker._work(job, clock := Clock(lambda event: None))
    assert (outcome.state, outcome.reason, clock.stage) == (AssetState.FAILED, ReasonCode.OUT_OF_MEMORY, "bake")
    assert "more than the limit of 1e-06 GB" in outcome.message
    assert not job.part.exists()


def test_jobs_know_the_memory_limit_of_their_run(tmp_path: Path) -> None:
    config = CurateConfig("assets", tmp_path, run=RunConfig(limits=Limits(memory_gb=3.5)))
    source = SourceAsset("a.glb", tmp_path / "a.glb", 1, 0)
    assert asset_job(config, PlannedAsset(source, "0" * 64), tmp_path / "part").memory_gb == 3.5


def test_storage_that_refuses_a_part_is_not_blamed_on_the_asset(tmp_path: Path) -> None:
    job = job_of(tmp_path)
    job = replace(job, part=Path("/proc/part"))  # takes no files
    with pytest.raises(OSError, match="proc"):
        process_asset(job, clock := Clock(lambda event: None))
    assert clock.stage == "pack"
