from __future__ import annotations

import io
import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
import yaml
from PIL import Image
from safetensors.torch import load, load_file, save
from torch._dynamo.utils import counters

from helix4d.core import ConfigError, FormatError
from helix4d.curation.places.store import StoreError
from helix4d.curation.shards.reader import ShardReader
from helix4d.train import loop as train_loop
from helix4d.train import step as train_step
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import Stage
from helix4d.train.data.dataset import ClipReader
from helix4d.train.data.loader import BrokenDataError, Loader
from helix4d.train.data.schedule import Schedule
from helix4d.train.loop import NonFiniteLossError, train
from helix4d.train.metrics import read_metrics
from helix4d.train.network import build_network
from tests.packages import needs
from tests.train import world

REPOSITORY = Path(__file__).parents[2]
STAGES = ("structure", "geometry", "material")
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def write_yaml(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(
    config: Path, *more: str, processes: int = 1, environment: dict[str, str] | None = None
) -> subprocess.Popen[bytes]:
    launch = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launch += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [*launch, "-m", "helix4d.train", "--config", str(config), *more]
    variables = {**_ENVIRONMENT, **(environment or {})}
    return subprocess.Popen(command, cwd=REPOSITORY, env=variables, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, errors = process.communicate(timeout=300)
    assert process.returncode == 0, errors.decode()


def tensors(run: Path) -> dict[str, torch.Tensor]:
    last = list_checkpoints(run)[-1]
    return {
        f"{n}.{k}": v for n in ("model", "ema", "optimizer") for k, v in load_file(last / f"{n}.safetensors").items()
    }


def losses(run: Path) -> list[float]:
    return [line["loss"] for line in read_metrics(run)]


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> tuple[Path, Path, Path]:
    return latents, shards, models


@pytest.mark.parametrize("stage", STAGES)
def test_a_resumed_run_equals_the_uninterrupted_one(
    stage: str, folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    whole = world.train_config(stage, *folders, tmp_path / "whole")
    state = train(whole)
    assert (state.step, state.position, state.broken) == (8, 16, ())
    parts = world.train_config(stage, *folders, tmp_path / "parts", steps=3)
    train(parts)
    train(replace(parts, steps=8))
    a, b = tensors(whole.folder), tensors(parts.folder)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(whole.folder) == losses(parts.folder)
    assert [line["step"] for line in read_metrics(parts.folder)] == list(range(1, 9))


@needs("tyro")
def test_kill_9_then_resume_is_bit_equal(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    whole = world.train_config("geometry", *folders, tmp_path / "whole", steps=60)
    values = {**world.train_values("geometry", *folders, tmp_path / "killed"), "steps": 60}
    values["run"]["save_every"] = 7
    config = write_yaml(tmp_path, values)
    process = start(config)
    run = tmp_path / "killed/geometry"
    while process.poll() is None and len(list_checkpoints(run)) < 2:
        time.sleep(0.005)
    os.killpg(process.pid, signal.SIGKILL)
    process.communicate()
    reached = load_checkpoint(list_checkpoints(run)[-1]).state.step
    assert 0 < reached < 60
    finish(start(config))
    train(whole)
    a, b = tensors(whole.folder), tensors(run)
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(whole.folder) == losses(run)


def stop_at(monkeypatch: pytest.MonkeyPatch, module: ModuleType, name: str, call: int) -> None:
    """Send SIGTERM to this process at the given call of a function of a module."""
    original, calls = getattr(module, name), 0

    def stopping(*args: Any) -> Any:
        nonlocal calls
        calls += 1
        if calls == call:
            os.kill(os.getpid(), signal.SIGTERM)
        return original(*args)

    monkeypatch.setattr(module, name, stopping)


def break_member(latents: Path, shard: str, sample: int, to: Path) -> str:
    """Copy the latents with the shape of one clip made unreadable; return the clip's key."""
    shutil.copytree(latents, to)
    tar = to / shard
    reader = ShardReader(tar)
    key = reader.keys()[sample]
    offset, _ = reader.sample(key)["members"]["shape.safetensors"]
    with open(tar, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 8)
    return key


def test_a_run_stopped_before_its_first_step_can_be_restarted(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=2)
    with monkeypatch.context() as patch:
        stop_at(patch, train_loop, "build_network", 1)
        assert train(config).step == 0
    assert train(config).step == 2


def test_a_broken_clip_is_counted_once_wherever_the_run_stops(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    key = break_member(folders[0], "train/helix4d-000000.tar", 1, tmp_path / "latents")
    config = world.train_config("geometry", tmp_path / "latents", *folders[1:], tmp_path, steps=5)
    found = set()
    for call in range(1, 5):
        stopped = replace(config, name=f"stopped_{call}")
        with monkeypatch.context() as patch:
            stop_at(patch, train_step, "squared_errors", call)
            assert train(stopped).step == call
        found.add(train(stopped).broken)
    assert found == {(key,)}  # in both epochs


def test_a_run_whose_first_step_has_only_broken_clips_continues(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=1, batch=1)
    reader = ClipReader(config.data, config.stage)
    entry = reader.entries[Schedule(reader.costs(4), config.seed).draws(0, 1)[0].clip]
    sample = ShardReader(folders[0] / entry.shard).keys().index(entry.key)
    break_member(folders[0], entry.shard, sample, tmp_path / "latents")
    config = replace(config, data=replace(config.data, latents=str(tmp_path / "latents")))
    assert train(config).broken == (entry.key,)
    assert train(replace(config, steps=3)).step == 3


def test_stopping_at_a_saved_step_does_not_rewrite_its_checkpoint(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=2)
    train(config)
    kept = list_checkpoints(config.folder)[-1].stat().st_ino
    stop_at(monkeypatch, train_loop, "build_network", 1)
    train(replace(config, steps=9))
    assert list_checkpoints(config.folder)[-1].stat().st_ino == kept


@needs("tyro")
def test_two_processes_train_like_one_and_one_resumes_from_two(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    changes: dict[str, Any] = {"batch": 4, "steps": 8, "tokens_per_microbatch": 60}
    one = world.train_config("geometry", *folders, tmp_path / "one", **changes)
    train(one)
    values = {**world.train_values("geometry", *folders, tmp_path / "two"), **changes}
    config = write_yaml(tmp_path, values)
    finish(start(config, "--set", "steps=5", processes=2))
    two = tmp_path / "two/geometry"
    assert losses(two) == pytest.approx(losses(one.folder)[:5], rel=1e-5)
    finish(start(config))
    assert losses(two) == pytest.approx(losses(one.folder), rel=1e-5)
    a, b = tensors(one.folder), tensors(two)
    assert all(torch.allclose(a[n], b[n], rtol=1e-3, atol=1e-5) for n in a if n.startswith("model"))
    assert [line["clips"] for line in read_metrics(two)] == [4 * step for step in range(1, 9)]


def test_each_sample_is_loaded_once_per_epoch(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Two processes for three steps, then one process for the rest: two epochs in total."""
    config = world.train_config("geometry", *folders, tmp_path, batch=2)
    reader = ClipReader(config.data, config.stage)
    schedule = Schedule(reader.costs(4), config.seed)
    seen: list[str] = []
    for ranks, steps, first in [(2, 3, 0), (1, 2, 3)]:
        for rank in range(ranks):
            with Loader(reader, schedule, config, rank, ranks) as loader:
                shares = loader.steps(first, 2 * first)
                for _ in range(steps):
                    seen += [clip.key for clips in next(shares).microbatches for clip in clips]
    assert sorted(seen) == sorted(2 * [entry.key for entry in reader.entries])


def test_random_numbers_of_a_clip_depend_only_on_names(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path)
    reader = ClipReader(config.data, config.stage)
    a, b = (reader.training_clip(1, (0, 5, 0), 0.1) for _ in range(2))
    other = reader.training_clip(1, (0, 6, 0), 0.1)
    assert torch.equal(a.noise, b.noise)
    assert (a.t, a.view, a.dropped) == (b.t, b.view, b.dropped)
    assert a.t != other.t
    assert not torch.equal(a.noise, other.noise)
    assert a.images.shape == (world.FRAMES, 3, world.IMAGE_SIZE, world.IMAGE_SIZE)


def test_a_broken_clip_counts_once_in_ten_epochs(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    latents = tmp_path / "latents"
    keys = [break_member(folders[0], "train/helix4d-000000.tar", 1, latents)]
    values = world.train_values("geometry", latents, *folders[1:], tmp_path)
    values["data"]["max_broken"] = 1
    config = world.build(world.TrainConfig, values, "test")
    assert train(replace(config, steps=13)).broken == (keys[0],)
    assert train(replace(config, steps=25)).broken == (keys[0],)  # fifty clips: each of the five ten times
    assert read_metrics(config.folder)[-1]["broken"] == 1
    keys.append(break_member(latents, "train/helix4d-000001.tar", 0, tmp_path / "worse"))
    values["data"]["latents"] = str(tmp_path / "worse")
    worse = world.build(world.TrainConfig, values, "test")
    with pytest.raises(BrokenDataError, match=rf"2 clips are missing.*, but data\.max_broken is 1: {', '.join(keys)}"):
        train(replace(worse, steps=30))


@pytest.mark.parametrize("error", [StoreError("gone"), FormatError("damaged"), OSError("no route")])
def test_all_read_errors_are_counted(
    error: Exception, folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=1)
    images = ClipReader.images

    def read(self: ClipReader, number: int, view: int) -> torch.Tensor:
        if number == 0:
            raise error
        return images(self, number, view)

    monkeypatch.setattr(ClipReader, "images", read)
    assert train(replace(config, steps=5)).broken == (ClipReader(config.data, config.stage).entries[0].key,)


def test_a_run_starts_even_if_the_first_clips_are_broken(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    key = break_member(folders[0], "train/helix4d-000000.tar", 0, tmp_path / "latents")
    values = world.train_values("geometry", tmp_path / "latents", *folders[1:], tmp_path)
    assert train(world.build(world.TrainConfig, {**values, "steps": 5}, "test")).broken == (key,)
    values["data"]["max_broken"] = 0
    with pytest.raises(BrokenDataError, match="none of the first 1 clips could be read"):
        train(world.build(world.TrainConfig, {**values, "name": "strict"}, "test"))


def test_a_texture_with_other_tokens_is_a_broken_clip(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    reader = ClipReader(world.train_config("material", *folders, tmp_path).data, Stage.MATERIAL)
    entry = reader.entries[0]
    shard = reader._shard(reader.config.latents, entry.shard)
    other = save({"latent": load(shard.read(entry.key, "texture.safetensors"))["latent"][1:].contiguous()})
    read = shard.read
    shard.read = lambda key, suffix: other if suffix.startswith("texture") else read(key, suffix)  # type: ignore[method-assign]
    with pytest.raises(FormatError, match="the texture latent has shape"):
        reader.latent(0)


def test_frames_of_different_sizes_are_a_broken_clip(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    reader = ClipReader(world.train_config("geometry", *folders, tmp_path).data, Stage.GEOMETRY)
    entry = reader.entries[0]
    shard = reader._shard(reader.config.images, entry.shard)
    stream = io.BytesIO()
    Image.new("RGBA", (5, 5)).save(stream, "WEBP", lossless=True)
    read = shard.read_members
    shard.read_members = lambda key, names: read(key, names) | {"view_00_frame_01.webp": stream.getvalue()}  # type: ignore[method-assign]
    with pytest.raises(FormatError, match="has 5×5 pixels, expected 32×32"):
        reader.images(0, 0)


def test_nothing_is_read_past_the_last_step(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=4)
    reader = ClipReader(config.data, config.stage)
    schedule = Schedule(reader.costs(4), config.seed)
    submitted = []
    with Loader(reader, schedule, config, 0, 1) as loader:
        submit = loader._submit
        loader._submit = lambda step, position: submitted.append(step) or submit(step, position)  # type: ignore[method-assign,func-returns-value]
        assert len(list(loader.steps(1, 2, 4))) == 3
        assert list(loader.steps(4, 8, 4)) == []
    assert submitted == [1, 2, 3]


@needs("tyro")
def test_ranks_with_different_checkpoints_stop(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """Two nodes without a shared folder: one would resume from step 2, the other start from step 0."""
    values = world.train_values("geometry", *folders, tmp_path / "0")
    train(world.build(world.TrainConfig, {**values, "steps": 2}, "test"))
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    config = write_yaml(tmp_path, values)
    ranks = []
    for rank in range(2):
        place = {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "RANK": str(rank)}
        change = ["--set", f"run.output={tmp_path / str(rank)}"]
        ranks.append(start(config, *change, environment=place))
    for process in ranks:
        _, errors = process.communicate(timeout=120)
        assert process.returncode == 2
        assert b"a folder shared by" in errors


def test_a_wrong_folder_of_images_is_rejected_before_the_first_step(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Otherwise every clip would be skipped, and a few clips may not exceed `max_broken`."""
    values = world.train_values("geometry", *folders, tmp_path)
    values["data"]["images"] = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"nowhere: the latents were not encoded from these shards"):
        train(world.build(world.TrainConfig, values, "test"))


def test_a_folder_without_an_image_encoder_is_rejected(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["image_encoder"] = str(tmp_path)
    with pytest.raises(ConfigError, match="the image encoder could not be loaded"):
        train(world.build(world.TrainConfig, values, "test"))


def test_a_non_finite_loss_names_its_clip(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["optimizer"] |= {"lr": 1e30, "max_norm": 1e30}
    with pytest.raises(NonFiniteLossError, match="0_0"):
        train(world.build(world.TrainConfig, values, "test"))


def test_other_settings_are_rejected(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train(world.train_config("geometry", *folders, tmp_path, steps=1))
    with pytest.raises(ConfigError, match="seed was 0, is 1"):
        train(world.train_config("geometry", *folders, tmp_path, steps=1, seed=1))
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["scratch"]["in_channels"] = 4
    with pytest.raises(ConfigError, match="and 4 input channels"):
        train(world.build(world.TrainConfig, {**values, "name": "other"}, "test"))


def test_other_clips_are_rejected(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Clips that are added later would change the order, so that an epoch would repeat some and skip others."""
    config = world.train_config("geometry", *folders, tmp_path, steps=1)
    begin = ClipReader.__init__

    def without_the_last(self: ClipReader, *args: Any) -> None:
        begin(self, *args)
        self.entries.pop()

    with monkeypatch.context() as patch:
        patch.setattr(ClipReader, "__init__", without_the_last)
        train(config)
        assert train(replace(config, steps=2)).step == 2
    with pytest.raises(ConfigError, match="started with different clips than those in"):
        train(replace(config, steps=3))


def test_only_trained_tensors_are_saved(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["trainable"] = ["blocks.*.self_attn.*", "out_layer.*"]
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    names = {n for n, p in build_network(config, torch.device("cpu")).named_parameters() if p.requires_grad}
    assert load_checkpoint(list_checkpoints(config.folder)[-1]).model.keys() == names
    assert names
    assert all(".self_attn." in name or name.startswith("out_layer") for name in names)


def test_old_checkpoints_are_removed(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["run"] |= {"save_every": 1, "keep_last": 2, "keep_every": 3}
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    assert [int(p.name[-2:]) for p in list_checkpoints(config.folder)] == [3, 6, 7, 8]


def test_partial_checkpoints_never_have_a_valid_name(
    folders: tuple[Path, Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill while a checkpoint is removed leaves no folder with a checkpoint's name; the next save cleans up."""

    def die(path: Path, **_: Any) -> None:
        for file in list(path.glob("*.safetensors"))[:1]:
            file.unlink()
            raise KeyboardInterrupt

    values = world.train_values("geometry", *folders, tmp_path)
    values["run"] |= {"save_every": 1, "keep_last": 1, "keep_every": 0}
    config = world.build(world.TrainConfig, values, "test")
    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr("helix4d.train.checkpoint.shutil.rmtree", die)
        train(config)
    for path in list_checkpoints(config.folder):
        load_checkpoint(path)
    assert train(config).step == 8
    assert [path.name for path in (config.folder / "checkpoints").iterdir()] == ["step_00000008"]


@needs("tyro")
def test_dry_run(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("structure", *folders, tmp_path)
    process = start(write_yaml(tmp_path, values), "--dry-run")
    finish(process)
    assert not (tmp_path / "structure").exists()


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="compiling for the CPU needs a C++ compiler")
def test_compiled_blocks_train_the_same(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    plain = world.train_config("geometry", *folders, tmp_path / "plain", steps=4)
    train(plain)
    values = {**world.train_values("geometry", *folders, tmp_path / "compiled"), "steps": 4}
    values["network"]["compile"] = True
    compiled = world.build(world.TrainConfig, values, "test")
    before = counters["stats"]["unique_graphs"]
    train(compiled)
    assert counters["stats"]["unique_graphs"] > before
    assert losses(compiled.folder) == pytest.approx(losses(plain.folder), rel=1e-5)
