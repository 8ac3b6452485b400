from __future__ import annotations

import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.networks.flow import FlowTransformer
from helix4d.train.config import TrainConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.network import build_network, load_image_encoder
from helix4d.train.parallel import World
from helix4d.train.validation import Validation
from tests.train import world
from tests.train.test_loop import break_member

CPU = torch.device("cpu")
Folders = tuple[Path, Path, Path]


@pytest.fixture(scope="module")
def folders(latents: Path, shards: Path, models: Path) -> Folders:
    return latents, shards, models


def validating(folders: Folders, output: Path, **run: Any) -> TrainConfig:
    values = world.train_values("geometry", *folders, output)
    values["run"] |= {"validate_every": 2, "validation_split": "train", "validation_clips": 4, **run}
    return world.build(TrainConfig, {**values, "steps": 4}, "test")


class Ranks:
    """Ranks that run one after another in threads and sum their values in double precision."""

    def __init__(self, count: int) -> None:
        self.sums: list[list[float]] = []
        self.barrier = threading.Barrier(count)

    def sum(self, values: Any) -> list[float]:
        self.sums.append(list(values))
        self.barrier.wait()
        return [sum(column) for column in zip(*self.sums, strict=True)]


def network_of(config: TrainConfig) -> FlowTransformer:
    """Return a network whose output depends on its input: a new one returns zero."""
    network = build_network(config, CPU)
    with torch.no_grad():
        network.out_layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    return network


def losses(config: TrainConfig, ranks: int, monkeypatch: pytest.MonkeyPatch) -> list[float | None]:
    shared, found = Ranks(ranks), [0.0] * ranks
    encoder = load_image_encoder(config.network, CPU)
    monkeypatch.setattr(World, "sum", lambda _, values: shared.sum(values))

    def run(rank: int) -> None:
        found[rank] = Validation(config, encoder, World(rank, ranks, CPU)).loss(network_of(config))

    threads = [threading.Thread(target=run, args=(rank,)) for rank in range(ranks)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    return found


def test_the_loss_is_the_same_number_on_any_number_of_ranks(
    folders: Folders, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = validating(folders, tmp_path)
    (expected,) = losses(config, 1, monkeypatch)
    assert expected is not None
    for ranks in (2, 3, 5):
        assert losses(config, ranks, monkeypatch) == ranks * [expected]


def test_it_is_logged_and_does_not_affect_training(folders: Folders, tmp_path: Path) -> None:
    config = validating(folders, tmp_path / "with")
    plain = validating(folders, tmp_path / "without", validate_every=0)
    train(config)
    train(plain)
    lines, others = read_metrics(config.folder), read_metrics(plain.folder)
    assert [line["loss"] for line in lines] == [line["loss"] for line in others]
    assert [line["step"] for line in lines if "validation_loss" in line] == [2, 4]
    assert lines[1]["validation_loss"] != lines[3]["validation_loss"]


def test_broken_clips_are_left_out(folders: Folders, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    key = break_member(folders[0], "train/helix4d-000000.tar", 0, tmp_path / "latents")
    broken = validating((tmp_path / "latents", *folders[1:]), tmp_path)
    state = train(broken)
    assert read_metrics(broken.folder)[-1]["validation_loss"] > 0
    assert f"skipping clip {key} in validation" in caplog.text
    assert state.step == 4
    with pytest.raises(ConfigError, match="no clips in the val split"):
        train(replace(broken, name="other", run=replace(broken.run, validation_split="val")))
    with pytest.raises(ConfigError, match=r"run\.validate_every is 3: must be a multiple of run\.log_every, 2"):
        validating(folders, tmp_path, validate_every=3, log_every=2)
