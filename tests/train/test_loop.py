from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from safetensors.torch import load_file
from torch._dynamo.utils import counters

from core import ConfigError
from curation.shard import ShardReader
from tests.train import world
from train.checkpoint import list_checkpoints, load_checkpoint
from train.dataset import ClipReader
from train.loader import BrokenDataError, Loader
from train.loop import NonFiniteLossError, train
from train.metrics import read_metrics
from train.network import build_network
from train.schedule import Schedule

REPOSITORY = Path(__file__).parents[2]
STAGES = ("structure", "geometry", "material")
_ENVIRONMENT = {**os.environ, "OMP_NUM_THREADS": "1"}


def write_yaml(folder: Path, values: dict[str, Any]) -> Path:
    path = folder / f"{values['name']}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


def start(config: Path, *more: str, processes: int = 1) -> subprocess.Popen[bytes]:
    launch = [sys.executable]
    if processes > 1:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            port = free.getsockname()[1]
        launch += ["-m", "torch.distributed.run", f"--nproc-per-node={processes}", f"--master-port={port}"]
    command = [*launch, "-m", "train", "--config", str(config), *more]
    return subprocess.Popen(command, cwd=REPOSITORY, env=_ENVIRONMENT, stderr=subprocess.PIPE, start_new_session=True)


def finish(process: subprocess.Popen[bytes]) -> None:
    _, told = process.communicate(timeout=300)
    assert process.returncode == 0, told.decode()


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
def test_a_resumed_run_is_the_uninterrupted_one(stage: str, folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    whole = world.train_config(stage, *folders, tmp_path / "whole")
    state = train(whole)
    assert (state.step, state.position, state.broken) == (8, 16, 0)
    parts = world.train_config(stage, *folders, tmp_path / "parts", steps=3)
    train(parts)
    train(replace(parts, steps=8))
    a, b = tensors(whole.folder), tensors(parts.folder)
    assert a.keys() == b.keys()
    assert all(torch.equal(a[name], b[name]) for name in a)
    assert losses(whole.folder) == losses(parts.folder)
    assert [line["step"] for line in read_metrics(parts.folder)] == list(range(1, 9))


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


def test_sigterm_saves_and_ends(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = {**world.train_values("geometry", *folders, tmp_path), "steps": 100_000}
    values["run"]["save_every"] = 100_000
    process = start(write_yaml(tmp_path, values))
    while process.poll() is None and not (tmp_path / "geometry/metrics.jsonl").exists():
        time.sleep(0.02)
    time.sleep(0.5)
    process.terminate()
    finish(process)
    saved = list_checkpoints(tmp_path / "geometry")
    assert len(saved) == 1
    assert load_checkpoint(saved[0]).state.step == len(read_metrics(tmp_path / "geometry"))


def test_two_processes_train_like_one_and_one_goes_on_from_two(
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


def test_each_sample_once_per_epoch_as_loaded(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    """One process for two steps, then two processes for the rest: together an epoch and a half."""
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


def test_what_a_clip_draws_depends_on_names_alone(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path)
    reader = ClipReader(config.data, config.stage)
    a, b = (reader.training_clip(1, (0, 5, 0), 0.1) for _ in range(2))
    other = reader.training_clip(1, (0, 6, 0), 0.1)
    assert torch.equal(a.noise, b.noise)
    assert (a.t, a.view, a.dropped) == (b.t, b.view, b.dropped)
    assert a.t != other.t
    assert not torch.equal(a.noise, other.noise)
    assert a.images.shape == (world.FRAMES, 3, world.IMAGE_SIZE, world.IMAGE_SIZE)


def test_broken_clips_are_counted_and_limited(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    latents = tmp_path / "latents"
    shutil.copytree(folders[0], latents)
    tar = latents / "train/helix4d-000000.tar"
    reader = ShardReader(tar)
    offset, _ = reader.sample(reader.keys()[1])["members"]["shape.safetensors"]
    with open(tar, "r+b") as stream:
        stream.seek(offset)
        stream.write(b"\xff" * 8)
    values = world.train_values("geometry", latents, *folders[1:], tmp_path)
    values["data"]["max_broken"] = 3
    config = world.build(world.TrainConfig, values, "test")
    assert train(replace(config, steps=5)).broken == 2  # ten clips: twice every one of the five
    with pytest.raises(BrokenDataError, match="4 clips were missing or broken, 3 are allowed"):
        train(replace(config, steps=10))


def test_a_wrong_folder_of_images_is_refused_before_the_first_step(
    folders: tuple[Path, Path, Path], tmp_path: Path
) -> None:
    """Every clip would be left out, and few clips stay below `max_broken`."""
    values = world.train_values("geometry", *folders, tmp_path)
    values["data"]["images"] = str(tmp_path / "nowhere")
    with pytest.raises(ConfigError, match=r"nowhere: not what the latents were made from"):
        train(world.build(world.TrainConfig, values, "test"))


def test_a_folder_that_is_no_image_encoder_is_refused(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["image_encoder"] = str(tmp_path)
    with pytest.raises(ConfigError, match=r"image encoder .*: cannot be loaded"):
        train(world.build(world.TrainConfig, values, "test"))


def test_a_loss_that_is_not_finite_names_its_clip(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["optimizer"] |= {"lr": 1e30, "max_norm": 1e30}
    with pytest.raises(NonFiniteLossError, match="0_0"):
        train(world.build(world.TrainConfig, values, "test"))


def test_other_settings_are_refused(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    train(world.train_config("geometry", *folders, tmp_path, steps=1))
    with pytest.raises(ConfigError, match="seed was 0, is 1"):
        train(world.train_config("geometry", *folders, tmp_path, steps=1, seed=1))
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["scratch"]["in_channels"] = 4
    with pytest.raises(ConfigError, match="takes 4"):
        train(world.build(world.TrainConfig, {**values, "name": "other"}, "test"))


def test_frozen_tensors_stay_and_only_trained_ones_are_saved(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["network"]["trainable"] = ["blocks.*.self_attn.*", "out_layer.*"]
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    names = {n for n, p in build_network(config, torch.device("cpu")).named_parameters() if p.requires_grad}
    assert load_checkpoint(list_checkpoints(config.folder)[-1]).model.keys() == names
    assert names
    assert all(".self_attn." in name or name.startswith("out_layer") for name in names)


def test_old_checkpoints_go(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["run"] |= {"save_every": 1, "keep_last": 2, "keep_every": 3}
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    assert [int(p.name[-2:]) for p in list_checkpoints(config.folder)] == [3, 6, 7, 8]


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
