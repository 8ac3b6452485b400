"""A machine that lacks what every asset needs ends the run, and marks no asset."""

from __future__ import annotations

import importlib.util
import os
import platform
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from helix4d.assets import content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.core import ReasonCode, SetupError
from helix4d.curation.config import Limits, SampleConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work import curate_task, stages, worker
from helix4d.curation.work.events import outcome_of_exception
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock


@pytest.fixture
def job(tmp_path: Path) -> AssetJob:
    asset = tmp_path / "ladybug.glb"
    asset.write_bytes(SAMPLES["ladybug"]())
    config = SampleConfig(resolution=32, frames=2, views=1, image_size=32, preset="draft")
    return AssetJob(asset.name, asset, content_hash(asset), tmp_path / "part", config, device="cpu")


def work(job: AssetJob) -> Outcome:
    return worker._work(job, Clock(lambda event: None))


def with_map(job: AssetJob, folder: Path) -> AssetJob:
    maps = {"sky.hdr": "0" * 64}
    return replace(job, hdri=folder, config=replace(job.config, environment_maps=maps))


def test_a_missing_folder_of_environment_maps(job: AssetJob, tmp_path: Path) -> None:
    with pytest.raises(SetupError, match=r"missing/sky\.hdr: cannot be read \(No such file or directory\)"):
        work(with_map(job, tmp_path / "missing"))


def test_a_different_environment_map(job: AssetJob, tmp_path: Path) -> None:
    (tmp_path / "sky.hdr").write_bytes(b"another")
    with pytest.raises(SetupError, match=r"sky\.hdr: has changed since the run started"):
        work(with_map(job, tmp_path))


def test_an_environment_map_that_may_not_be_read(
    job: AssetJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = Path.read_bytes

    def read(path: Path) -> bytes:
        if path.name == "sky.hdr":
            raise PermissionError(13, os.strerror(13), str(path))
        return plain(path)

    monkeypatch.setattr(Path, "read_bytes", read)
    with pytest.raises(SetupError, match=r"sky\.hdr: cannot be read \(Permission denied\)"):
        work(with_map(job, tmp_path))


def test_a_lost_gpu(job: AssetJob) -> None:
    devices = pytest.importorskip("helix4d.render.cycles.devices")
    if devices.find_gpus(devices.cycles_preferences()):
        pytest.skip("this machine has a GPU")
    with pytest.raises(SetupError, match="device 'gpu': Blender finds no such device"):
        work(replace(job, device="gpu"))


def test_no_opengl_driver(job: AssetJob, monkeypatch: pytest.MonkeyPatch) -> None:
    engine = pytest.importorskip("helix4d.render.raster.engine")

    def fail(**_: Any) -> None:
        raise Exception("libEGL.so.1: cannot open shared object file")

    monkeypatch.setattr(engine, "_devices", [])
    monkeypatch.setattr(engine.moderngl, "create_context", fail)
    with pytest.raises(SetupError, match="no OpenGL 4 context through EGL"):
        work(replace(job, config=replace(job.config, engine="raster", preset="train")))


@pytest.mark.parametrize(("engine", "module"), [("cycles", "bpy"), ("raster", "moderngl"), ("blenderproc", "h5py")])
def test_a_missing_package_of_an_engine(
    job: AssetJob, engine: Any, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == module else plain(name))
    with pytest.raises(SetupError, match=f"engine {engine}: cannot import {module}"):
        work(replace(job, config=replace(job.config, engine=engine, preset="train")))


def test_a_package_that_cannot_be_loaded(job: AssetJob, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise ImportError("libXi.so.6: cannot open shared object file", name="bpy")

    monkeypatch.setattr(stages, "load_engine", fail)
    with pytest.raises(SetupError, match=r"cannot be imported \(libXi\.so\.6"):
        work(job)


def test_a_package_that_only_some_assets_need(job: AssetJob, monkeypatch: pytest.MonkeyPatch) -> None:
    """What an asset can bring about must not end a run."""

    def fail(*_: object, **__: object) -> None:
        raise ModuleNotFoundError("No module named 'lxml'", name="lxml")

    monkeypatch.setattr(stages, "bake_clips", fail)
    assert work(job).reason is ReasonCode.CRASHED


def test_a_cache_of_another_user(job: AssetJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise PermissionError(1, os.strerror(1))

    cache = tmp_path / "cache"
    (cache / "files").mkdir(parents=True, mode=0o755)
    monkeypatch.setattr(Path, "chmod", fail)
    downloads = replace(job.downloads, cache=cache)
    with pytest.raises(SetupError, match="belongs to another user: pass a folder of your own as --cache"):
        work(replace(job, remote=RemoteFile("https://example.org/a.glb"), downloads=downloads))


class _Box:
    """A sandbox whose jobs end with the given events."""

    def __init__(self, *ends: dict[str, Any]) -> None:
        self.ends = list(ends)

    def run(self, *_: object) -> tuple[dict[str, Any], int]:
        return {"event": "end", **self.ends.pop(0)}, 1

    def log_tail(self) -> str:
        return "log"


def crash(stage: str) -> dict[str, Any]:
    code = ReasonCode.CRASHED
    return {"outcome": Outcome("a", code.state, code, stage=stage, message="Illegal address in CUDA queue").to_json()}


def curate(job: AssetJob, box: _Box, monkeypatch: pytest.MonkeyPatch, device: str = "gpu") -> Outcome:
    monkeypatch.setattr(curate_task, "_sandbox", lambda *_: box)
    return curate_task.curate_asset(job, lambda text: None, Limits(), device)


def test_the_error_names_the_node_and_becomes_no_outcome(job: AssetJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match=f"^node {platform.node()}: no driver$") as caught:
        curate(job, _Box({"unfit": "no driver"}), monkeypatch)
    with pytest.raises(SetupError):
        outcome_of_exception(caught.value, job, "", "")


def test_an_asset_during_which_the_gpu_is_lost_is_not_marked(job: AssetJob, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(SetupError, match="no such device"):
        curate(job, _Box(crash("render"), {"unfit": "no such device"}), monkeypatch)


@pytest.mark.parametrize(
    ("device", "stage", "attempts"), [("gpu", "render", 2), ("cpu", "render", 1), ("gpu", "bake", 1)]
)
def test_an_asset_that_breaks_rendering_has_failed(
    job: AssetJob, device: str, stage: str, attempts: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    outcome = curate(job, _Box(crash(stage), crash(stage)), monkeypatch, device)
    assert (outcome.reason, outcome.attempts, outcome.log) == (ReasonCode.CRASHED, attempts, "log")
