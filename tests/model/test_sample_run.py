"""Runs of `helix4d sample` with tiny networks: the frames they use, the files they write, frames that fail."""

from __future__ import annotations

import importlib.util
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.assets.gltf.packing import unpack_glb
from helix4d.core import ConfigError, Helix4DError
from helix4d.core.errors import SetupError
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.model.sampling import sample_run
from helix4d.model.sampling.anchor import AnchorKind
from helix4d.model.sampling.sample_run import SampleRun
from helix4d.model.sampling.video_pipeline import Helix4DPipeline
from helix4d.voxelize import OVoxel
from helix4d.voxelize.mesh.export import ExportSettings, require_packages
from helix4d.voxelize.mesh.glb import TextureFormat
from tests.packages import needs
from tests.voxelize.meshes import icosphere, painted_sphere, surface


def test_start_and_fps_reach_the_reader_and_fps_the_results(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen = []

    def read(path: Path, frames: int, matting: object, *, start_s: float, fps: float | None) -> None:
        seen.append((path, frames, start_s, fps))
        raise ConfigError("read")

    monkeypatch.setattr(sample_run, "read_video", read)
    common = {"video": tmp_path / "a.mp4", "output": tmp_path / "out", "model": "model", "device": "cpu"}
    runs = [SampleRun(**common), SampleRun(**common, start=2.0, fps=16.0, frames=8)]
    for run in runs:
        with pytest.raises(ConfigError, match="read"):
            sample_run.run_sample(run, lambda *_: None)
    assert seen == [(tmp_path / "a.mp4", 16, 0.0, None), (tmp_path / "a.mp4", 8, 2.0, 16.0)]
    assert [run.playback_fps for run in runs] == [8.0, 16.0]
    with pytest.raises(ConfigError, match=r"fps is 0\.0: must be positive"):
        SampleRun(**common, fps=0.0)


def sphere(radius: float, alpha: int = 255) -> GeneratedFrame:
    """A sphere that is colored by position, with a crumb and a hole."""
    ovoxel = painted_sphere(64, alpha, radius)
    vertices, faces = surface(ovoxel)
    crumb, triangles = icosphere(0, 0.01)
    around = np.flatnonzero((faces == faces[0, 0]).any(axis=1))
    vertices, faces = (
        np.concatenate([vertices, crumb]),
        np.concatenate([np.delete(faces, around, 0), triangles + len(vertices)]),
    )
    return GeneratedFrame(ovoxel, vertices.astype(np.float32), faces.astype(np.int32))


@pytest.fixture
def run(tiny: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Function that runs `helix4d sample` on a video whose frames are decoded to the given ones."""
    for number in range(4):
        pixels = np.zeros((32, 32, 4), np.uint8)
        pixels[8:24, 8 : 20 + number] = 255
        (tmp_path / "video").mkdir(exist_ok=True)
        Image.fromarray(pixels, "RGBA").save(tmp_path / f"video/{number}.png")

    def sample(frames: list[Any], export: ExportSettings, **settings: Any) -> tuple[dict[str, Any], Path]:
        def decode(*_: object) -> Iterator[Any]:
            pipeline = _[0]
            assert isinstance(pipeline, Helix4DPipeline)
            pipeline.timings["decode"] = 0.0
            yield from frames

        monkeypatch.setattr(Helix4DPipeline, "decode", decode)
        common = {"video": tmp_path / "video", "output": tmp_path / "out", "model": str(tiny), "base": str(tiny)}
        config = SampleRun(
            **common, device="cpu", frames=len(frames), steps=1, turntable=False, export=export, **settings
        )
        return sample_run.run_sample(config, lambda *_: None), tmp_path / "out"

    return sample


def alpha_modes(path: Path) -> set[str]:
    return {material.get("alphaMode", "OPAQUE") for material in unpack_glb(path.read_bytes())[0]["materials"]}


@needs("xatlas", "meshoptimizer", "pxr")
def test_every_form_is_written_cleaned_and_with_one_alpha_mode(run: Any) -> None:
    export = ExportSettings(
        min_component=0.01,
        faces=3000,
        texture_size=32,
        texture_format=TextureFormat.WEBP,
        meshopt=True,
        morph=True,
        usdz=True,
    )
    frames = [sphere(0.4), sphere(0.41, 100), sphere(0.42)]
    facts, folder = run(frames, export)
    names = ["frame_00.glb", "frame_01.glb", "frame_02.glb", "clip.glb", "clip_morph.glb", "clip.usdz"]
    assert facts["files"] == names
    assert all((folder / name).is_file() for name in names)
    for name in names[:5]:
        assert alpha_modes(folder / name) == {"BLEND"}, "frame 1 alone decides for all"
    for figures, frame in zip(facts["frames"], frames, strict=True):
        assert figures["decoded_faces"] == len(frame.faces) > 5000
        assert 2500 < figures["faces"] <= 3000
    document, _ = unpack_glb((folder / "clip.glb").read_bytes())
    assert {"EXT_meshopt_compression", "EXT_texture_webp"} <= set(document["extensionsRequired"])
    document, _ = unpack_glb((folder / "frame_00.glb").read_bytes())
    low = np.array(document["accessors"][document["meshes"][0]["primitives"][0]["attributes"]["POSITION"]]["min"])
    assert low == pytest.approx([-0.4] * 3, abs=0.01)
    with pytest.raises(ConfigError, match="texture_size is 0"):
        ExportSettings(texture_size=0)


@needs("xatlas", "meshoptimizer")
def test_a_failed_frame_costs_that_frame(run: Any, caplog: pytest.LogCaptureFixture) -> None:
    """One that cannot be decoded, one whose mesh and voxels do not fit, one without a surface."""
    good = sphere(0.4)
    far = GeneratedFrame(painted_sphere(64, radius=0.1), good.vertices, good.faces)
    empty = GeneratedFrame(OVoxel.empty(64), np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32))
    export = ExportSettings(min_component=0.01, texture_size=32)
    facts, folder = run([Helix4DError("out of memory"), far, empty, good], export)
    errors = [frame.get("error") for frame in facts["frames"]]
    assert errors[0] == "out of memory"
    assert "no voxel within 8 voxels" in errors[1]
    assert errors[2:] == [None, None]
    assert facts["files"] == ["frame_03.glb", "clip.glb"]
    assert sorted(path.name for path in folder.glob("*.vxz")) == ["frame_01.vxz", "frame_02.vxz", "frame_03.vxz"]
    assert "frame 0 failed: out of memory" in caplog.text
    with pytest.raises(ConfigError, match=r"no frame could be decoded and meshed\. Frame 0: out of memory"):
        run([Helix4DError("out of memory")] * 2, export)
    assert not (folder / "run.json").exists()


def test_the_command_reports_failed_frames(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    from helix4d.cli.sample import run as command

    seen: list[SampleRun] = []

    def fake(config: SampleRun, progress: Any) -> dict[str, Any]:
        seen.append(config)
        progress("mesh", 1, 2)
        return {"frames": [{"faces": 3}, {"faces": 0, "error": "crashed"}], "seconds": {"mesh": 1.0}}

    monkeypatch.setattr(sample_run, "run_sample", fake)
    words = ["--video", "a.mp4", "--output", "out", "--model", "m", "--anchor", "1024_cascade", "--faces", "9000"]
    assert command([*words, "--texture-format", "webp", "--meshopt"]) == 1
    assert "frames [1] failed: out/run.json has the reasons" in capsys.readouterr().out
    assert seen[0].anchor is AnchorKind.CASCADE_1024
    assert seen[0].export == ExportSettings(faces=9000, texture_format=TextureFormat.WEBP, meshopt=True)
    assert json.dumps(seen[0].export.texture_format) == '"webp"'


@pytest.mark.parametrize(
    ("missing", "settings", "extra"),
    [("pxr", {"usdz": True}, "curate"), ("meshoptimizer", {}, "model"), ("xatlas", {"faces": None}, "model")],
)
def test_a_missing_package_is_reported_before_any_work(missing, settings, extra, monkeypatch) -> None:
    find = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == missing else find(name))
    with pytest.raises(SetupError, match=rf"cannot import {missing}\. Install the extra '{extra}'"):
        require_packages(ExportSettings(**settings))
