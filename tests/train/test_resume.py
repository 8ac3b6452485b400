"""A run resumes only with the same inputs, except for settings that are changed on purpose."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from helix4d.core import ConfigError, write_json
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import OptimizerConfig
from helix4d.train.export import average_note, export_run
from helix4d.train.latents.encode import EncodeConfig, encode
from helix4d.train.latents.jobs import LatentConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.optimizer import MovingAverage
from helix4d.train.small_world.random_encoder import write_random_image_encoder
from tests.train import world

Folders = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> Folders:
    return latents, shards, models


def test_other_encoders_and_statistics_are_refused(folders: Folders, tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=1)
    train(config)
    more = replace(config, steps=2)

    write_random_image_encoder(tmp_path / "encoder", channels=16, layers=1, seed=1)
    swapped = replace(more, network=replace(more.network, image_encoder=str(tmp_path / "encoder")))
    with pytest.raises(ConfigError, match=r"different inputs: network.image_encoder has different weights \(SHA-256"):
        train(swapped)
    shutil.copytree(folders[2] / "image_encoder", tmp_path / "moved")

    published = replace(more, data=replace(more.data, latents=str(tmp_path / "latents")))
    shutil.copytree(folders[0], tmp_path / "latents")
    statistics = json.loads((tmp_path / "latents/statistics.json").read_bytes())
    statistics["shape"]["mean"][0] += 1
    write_json(tmp_path / "latents/statistics.json", statistics)
    with pytest.raises(ConfigError, match=r"different inputs: the latents are normalized with different statistics"):
        train(published)

    other = world.write_models(tmp_path / "models", seed=1)
    encode(
        EncodeConfig(
            folders[1], tmp_path / "others", str(other), latents=LatentConfig(occupancy_resolution=8), serial=True
        )
    )
    with pytest.raises(ConfigError, match=r"data.latents were encoded with different encoders"):
        train(replace(more, data=replace(more.data, latents=str(tmp_path / "others"))))

    moved = replace(more, network=replace(more.network, image_encoder=str(tmp_path / "moved")))
    assert train(moved).step == 2


def test_other_frozen_weights_are_refused(folders: Folders, tmp_path: Path) -> None:
    """The same run on another base checkpoint."""
    base = world.build(world.TrainConfig, world.train_values("geometry", *folders, tmp_path / "bases"), "test")
    for name, seed in (("a", 0), ("b", 1)):
        train(replace(base, name=name, steps=1, seed=seed))
        export_run(tmp_path / "bases" / name, tmp_path / name)
    shutil.copytree(tmp_path / "a", tmp_path / "c")
    values = {**world.train_values("geometry", *folders, tmp_path), "steps": 1}
    flow = "ckpts/shape_slat_flow_model_512"
    values["network"] |= {"scratch": None, "checkpoint": str(tmp_path / "a"), "flow": flow}
    values["network"]["trainable"] = ["blocks.*.self_attn.*"]
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    more = replace(config, steps=2)
    with pytest.raises(ConfigError, match=r"network.checkpoint has different frozen weights"):
        train(replace(more, network=replace(more.network, checkpoint=str(tmp_path / "b"))))
    assert train(replace(more, network=replace(more.network, checkpoint=str(tmp_path / "c")))).step == 2


def test_settings_are_changed_on_purpose_and_recorded(folders: Folders, tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=2)
    train(config)
    slower = replace(config, steps=4, optimizer=replace(config.optimizer, lr=1e-4))
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.001, is 0.0001.*or pass --change optimizer.lr=0.0001"):
        train(slower)
    with pytest.raises(ConfigError, match="--change seed: only these may be changed on resume: condition_dropout"):
        train(slower, ["seed"])
    assert train(slower, ["optimizer.lr"]).step == 4
    state = load_checkpoint(list_checkpoints(config.folder)[-1]).state
    change = {"step": 2, "setting": "optimizer.lr", "before": 1e-3, "after": 1e-4}
    assert state.changes == (change,)
    assert [line["lr"] for line in read_metrics(config.folder)] == [1e-3, 1e-3, 1e-4, 1e-4]
    train(replace(slower, steps=6), ["optimizer.lr"])  # restarted with the same command
    assert load_checkpoint(list_checkpoints(config.folder)[-1]).state.changes == (change,)
    with pytest.raises(ConfigError, match=r"optimizer.lr was 0.0001, is 0.001"):
        train(replace(config, steps=7))


def test_the_average_forgets_its_start_as_documented() -> None:
    weight = torch.nn.Parameter(torch.ones(1))
    shares = {}
    for warmup in (False, True):
        average = MovingAverage({"w": weight}, OptimizerConfig(ema_warmup=warmup))
        with torch.no_grad():
            weight.zero_()  # the average then equals the share of its start
        for step in range(20_000):
            average.update({"w": weight}, step)
            if step + 1 in (3, 1000, 20_000):
                shares[warmup, step + 1] = float(average.tensors["w"])
                assert float(average.tensors["w"]) == pytest.approx(average.start_share, rel=1e-3)
        with torch.no_grad():
            weight.fill_(1)
    assert shares[False, 1000] == pytest.approx(0.905, abs=1e-3)
    assert shares[False, 20_000] == pytest.approx(0.135, abs=1e-3)
    assert shares[True, 3] < 0.01
    assert average_note(0.9999, 20_000, 0.135) == (
        "the moving average of 20,000 steps with a decay of 0.9999, in which the initial weights have a share of 13.5 %"
    )


def test_checkpoints_of_version_0_4_resume(folders: Folders, tmp_path: Path) -> None:
    config = world.train_config("geometry", *folders, tmp_path, steps=2)
    train(config)
    path = list_checkpoints(config.folder)[-1] / "state.json"
    state = json.loads(path.read_bytes())
    for name in ("inputs", "changes", "start_share"):
        del state[name]
    for section, names in {"data": ("max_tokens", "allow_partial"), "optimizer": ("ema_warmup",)}.items():
        for name in names:
            del state["config"][section][name]
    write_json(path, {**state, "broken": 3})
    resumed = train(replace(config, steps=3))
    assert (resumed.step, resumed.broken) == (3, ())
    assert resumed.start_share == pytest.approx(0.9**3)
