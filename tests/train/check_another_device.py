"""Encoding, training and sampling on another device: no tensor stays on the CPU, and the results equal the CPU's."""

from __future__ import annotations

import shutil
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helix4d.curation.shards.reader import ShardReader
from helix4d.model.checkpoint.checkpoint import CheckpointSource
from helix4d.model.conditioning.video_input import read_video
from helix4d.model.device import torso_types
from helix4d.model.latents.encode import ClipLatents, Encoders, encode_clip
from helix4d.model.sampling import video_pipeline
from helix4d.model.sampling.video_pipeline import AnchorOptions, Helix4DPipeline
from helix4d.train import loop
from helix4d.train.export import export_run
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.parallel import World
from helix4d.train.signals import StopRequest
from helix4d.voxelize import decode_vxz
from tests import another_device
from tests.train import world

CPU = torch.device("cpu")
STAGES = ("structure", "geometry", "material")


@pytest.mark.parametrize("stage", STAGES)
def test_a_run_with_previews(
    stage: str, shards: Path, models: Path, latents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = world.train_values(stage, latents, shards, models, tmp_path)
    values |= {"steps": 2}
    values["run"] |= {"preview_every": 2, "preview_models": str(models), "preview_split": "train", "preview_clips": 1}

    def losses(name: str) -> list[float]:
        config = world.build(world.TrainConfig, {**values, "name": name}, "test")
        train(config)
        assert len(list(config.folder.glob("previews/*/*.webp"))) == 1
        return [line["loss"] for line in read_metrics(config.folder)]

    expected = losses("here")
    with another_device.another_device() as device:

        @contextmanager
        def elsewhere(name: str, stop: StopRequest, timeout_s: float) -> Iterator[World]:
            yield World(0, 1, device, stop)

        monkeypatch.setattr(loop, "world", elsewhere)
        assert losses("elsewhere") == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("stage", STAGES)
def test_a_step_waits_for_the_device_once(
    stage: str, shards: Path, models: Path, latents: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two microbatches per step, and a line of metrics only at the end: what remains is the check for finite values."""
    values = world.train_values(stage, latents, shards, models, tmp_path)
    values |= {"tokens_per_microbatch": 1}
    values["run"] |= {"log_every": 100, "save_every": 100}

    def waiting(steps: int) -> list[str]:
        config = world.build(world.TrainConfig, {**values, "name": f"{stage}_{steps}", "steps": steps}, "test")
        with another_device.waits() as found:
            train(config)
        return found

    with another_device.another_device() as device:

        @contextmanager
        def elsewhere(name: str, stop: StopRequest, timeout_s: float) -> Iterator[World]:
            yield World(0, 1, device, stop)

        monkeypatch.setattr(loop, "world", elsewhere)
        few, many = waiting(1), waiting(3)
    more = Counter(many) - Counter(few)
    assert list(more.values()) == [2], more
    assert "train/loop.py" in next(iter(more))


def test_the_latents_of_a_clip(shards: Path, models: Path) -> None:
    reader = ShardReader(next((shards / "train").glob("*.tar")))
    ovoxels = [decode_vxz(reader.read(reader.keys()[0], f"frame_{f:02d}.vxz")) for f in range(world.FRAMES)]

    def encoded(device: torch.device) -> ClipLatents:
        source = CheckpointSource(str(models), offline=True)
        return encode_clip(ovoxels, Encoders.load(source, device, torch.float32), 8)

    expected = encoded(CPU)
    with another_device.another_device() as device:
        found = encoded(device)
    for name in ("structure", "coords", "shape", "texture"):
        torch.testing.assert_close(getattr(found, name), getattr(expected, name))


@pytest.fixture(scope="module")
def exported(shards: Path, models: Path, latents: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ...]:
    """A base, fine-tuned stages and a video; one step of training is enough."""
    root = tmp_path_factory.mktemp("exported")
    base, tuned, video = root / "base", root / "tuned", root / "video"
    shutil.copytree(models, base)
    for stage in STAGES:
        for folder, frozen in ((base, True), (tuned, False)):
            values = world.train_values(stage, latents, shards, models, root / f"runs_{folder.name}")
            values |= {"steps": 1}
            if frozen:
                values["network"] |= {"first_frame": False}
                values["network"]["video"] |= {"pattern": "spatial", "temporal": "none", "kept": 1.0}
            config = world.build(world.TrainConfig, values, "test")
            train(config)
            export_run(config.folder, folder)
    reader = ShardReader(next((shards / "train").glob("*.tar")))
    video.mkdir()
    for frame in range(world.FRAMES):
        image = reader.read(reader.keys()[0], f"view_00_frame_{frame:02d}.webp")
        (video / f"{frame}.webp").write_bytes(image)
    return base, tuned, video


def meshes(exported: tuple[Path, ...], thrifty: bool, **settings: Any) -> list[np.ndarray]:
    """Vertices of each frame, with batched guidance, or with low_vram and a shrunk anchor."""
    base, tuned, video = exported
    pipeline = Helix4DPipeline.from_pretrained(str(tuned), str(base), device="cpu", anchor=AnchorOptions(fit=thrifty))
    pipeline.placement = replace(pipeline.placement, batched_guidance=not thrifty, **settings)
    samplers = pipeline.samplers.changed(steps=2)
    return [frame.vertices for frame in pipeline(read_video(video), samplers=samplers)]


@pytest.mark.parametrize("thrifty", [False, True])
def test_meshes_of_a_video(thrifty: bool, exported: tuple[Path, ...]) -> None:
    expected = meshes(exported, thrifty)
    with another_device.another_device() as device:
        found = meshes(exported, thrifty, device=device, low_vram=thrifty)
    for ours, theirs in zip(found, expected, strict=True):
        np.testing.assert_allclose(ours, theirs, atol=1e-4)


def test_meshes_in_the_types_of_a_gpu(exported: tuple[Path, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    types = torso_types(torch.device("cuda"))
    monkeypatch.setattr(video_pipeline, "torso_types", lambda device: types)
    expected = meshes(exported, thrifty=True)
    with another_device.another_device() as device:
        found = meshes(exported, thrifty=True, device=device)
    for ours, theirs in zip(found, expected, strict=True):
        assert len(ours) == pytest.approx(len(theirs), rel=0.01)
