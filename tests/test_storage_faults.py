"""Readers of our own files: an error of storage is raised, where a damaged file is reported or becomes a gap."""

from __future__ import annotations

import errno
import os
import zipfile
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from PIL import Image

from helix4d.assets import Limits, archive, bake_clips
from helix4d.bench_builder.entry import read_frames
from helix4d.core import AssetState, FormatError
from helix4d.curation.report import pictures
from helix4d.curation.report.pictures import PictureJob
from helix4d.render.scene.environment import load_map
from helix4d.render.scene.exr_files import read_exr
from helix4d.train.latents import jobs
from helix4d.train.latents.jobs import EncodeJob, LatentConfig, encode_sample


def failing(error: Exception) -> Callable[..., Any]:
    def fail(*_: object, **__: object) -> None:
        raise error

    return fail


def fault(number: int = errno.EIO) -> OSError:
    return OSError(number, os.strerror(number))


def picture(folder: Path) -> int:
    return pictures._picture_samples([PictureJob(folder / "a.tar", "key", 1, folder)])


def test_pictures_of_a_report(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pictures, "ShardReader", lambda shard: None)
    monkeypatch.setattr(pictures, "_picture_sample", failing(fault()))
    with pytest.raises(OSError, match="Input/output error"):
        picture(tmp_path)
    monkeypatch.setattr(pictures, "_picture_sample", failing(OSError("broken data stream")))
    with pytest.raises(FormatError, match=r"a\.tar: cannot draw key \(broken data stream\)"):
        picture(tmp_path)


def test_frames_of_the_benchmark(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "open", failing(fault()))
    with pytest.raises(OSError, match="Input/output error"):
        read_frames(tmp_path, 1)
    monkeypatch.setattr(Image, "open", failing(OSError("cannot identify image file")))
    with pytest.raises(FormatError, match="not a readable image"):
        read_frames(tmp_path, 1)


@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EACCES])
def test_shards_that_are_encoded(number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    job = EncodeJob("key", tmp_path / "a.tar", tmp_path / "part", "models", True, LatentConfig())
    monkeypatch.setattr(jobs, "_encode", failing(fault(number)))
    with pytest.raises(OSError, match=os.strerror(number)):
        encode_sample(job, lambda text: None)
    monkeypatch.setattr(jobs, "_encode", failing(FormatError("truncated")))
    assert encode_sample(job, lambda text: None).state is AssetState.FAILED


def test_environment_maps(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "read_bytes", failing(fault(errno.ESTALE)))
    with pytest.raises(OSError, match=os.strerror(errno.ESTALE)):
        load_map(tmp_path, "a.hdr")


def test_the_list_of_an_archive(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "a.zip").write_bytes(b"PK")
    monkeypatch.setattr(zipfile, "ZipFile", failing(fault()))
    with pytest.raises(OSError, match="Input/output error"):
        archive._unpack_members(tmp_path / "a.zip", tmp_path, Limits())


def test_a_blend_file_that_is_linked(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    importer = pytest.importorskip("helix4d.assets.blender.importer")
    (tmp_path / "a.blend").write_bytes(b"BLENDER-v402")
    monkeypatch.setattr(importer, "refuse_outside_libraries", lambda path, root: None)
    monkeypatch.setattr(importer, "refuse_before_opening", failing(fault()))
    with pytest.raises(OSError, match="Input/output error"):
        bake_clips(tmp_path / "a.blend", frames=2, isolated=False)


def test_an_image_that_cannot_be_read(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    library = pytest.importorskip("OpenEXR")
    (tmp_path / "a.exr").write_bytes(b"")
    monkeypatch.setattr(library, "File", failing(RuntimeError("Cannot read a.exr. Input/output error.")))
    with pytest.raises(OSError, match="Input/output error") as caught:
        read_exr(tmp_path / "a.exr")
    assert caught.value.errno == errno.EIO
    monkeypatch.setattr(library, "File", failing(RuntimeError("Cannot read a.exr. Not an image file.")))
    with pytest.raises(FormatError):
        read_exr(tmp_path / "a.exr")


def test_a_rendering_that_cannot_be_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = pytest.importorskip("helix4d.render.cycles.engine")

    def fail(message: str) -> None:
        render = SimpleNamespace(render=failing(RuntimeError(message)))
        monkeypatch.setattr(engine, "bpy", SimpleNamespace(ops=SimpleNamespace(render=render)))

    fail("Error: could not write image: No space left on device")
    with pytest.raises(OSError, match="No space left on device"):
        engine._render_once(tmp_path / "a.exr", 1)
    fail("Error: Illegal address in CUDA queue")
    with pytest.raises(engine.RenderError, match="Illegal address"):
        engine._render_once(tmp_path / "a.exr", 1)
