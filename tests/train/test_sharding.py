from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.train.data.loader import BrokenDataError, padded
from helix4d.train.loop import train
from helix4d.train.sharding import check_shardable
from tests.packages import needs
from tests.train import world
from tests.train.test_loop import finish, losses, start, tensors, write_yaml


@needs("tyro")
def test_sharded_processes_train_like_one_and_one_resumes_from_them(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    """Three clips per step over two ranks, in small pieces: the ranks have different numbers of microbatches."""
    folders = (latents, shards, models)
    changes: dict[str, Any] = {"batch": 3, "steps": 8, "tokens_per_microbatch": 60}
    one = world.train_config("geometry", *folders, tmp_path / "one", **changes)
    train(one)
    values = {**world.train_values("geometry", *folders, tmp_path / "two"), **changes}
    values["network"]["shard"] = True
    config = write_yaml(tmp_path, values)
    two = tmp_path / "two/geometry"
    finish(start(config, "--set", "steps=3", processes=2))
    finish(start(config, "--set", "steps=6", processes=2))
    assert losses(two) == pytest.approx(losses(one.folder)[:6], rel=1e-5)
    finish(start(config))
    assert losses(two) == pytest.approx(losses(one.folder), rel=1e-5)
    a, b = tensors(one.folder), tensors(two)
    assert a.keys() == b.keys()
    assert all(a[name].shape == b[name].shape for name in a)
    assert all(torch.allclose(a[n], b[n], rtol=1e-3, atol=1e-5) for n in a if n.startswith(("model", "ema")))


def test_unsupported_settings_of_sharding_are_rejected(tmp_path: Path) -> None:
    folders = (tmp_path, tmp_path, tmp_path, tmp_path)
    values = world.train_values("geometry", *folders)
    check_shardable(world.build(world.TrainConfig, values, "test"))
    values["run"]["preview_every"] = 5
    with pytest.raises(ConfigError, match="preview_every"):
        check_shardable(world.build(world.TrainConfig, values, "test"))
    values["network"]["trainable"] = ["blocks.*"]
    with pytest.raises(ConfigError, match="full fine-tuning"):
        check_shardable(world.build(world.TrainConfig, values, "test"))


def test_ranks_are_padded_to_the_longest() -> None:
    a, b, spare = ([object()] for _ in range(3))
    assert list(padded([a, b], 4, None)) == [(a, 1.0), (b, 1.0), (b, 0.0), (b, 0.0)]  # type: ignore[list-item]
    assert list(padded([], 1, spare)) == [(spare, 0.0)]  # type: ignore[arg-type]
    assert list(padded([], 0, None)) == []
    with pytest.raises(BrokenDataError, match="could not read any clip"):
        list(padded([], 1, None))
