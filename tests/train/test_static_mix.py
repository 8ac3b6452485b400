"""A data set of static and animated clips: samples of one frame are encoded, trained on, and sampled."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.networks.flow_matching import velocity
from helix4d.model.sampling.sampler import SamplerConfig
from helix4d.train import step
from helix4d.train.config import Mix, TrainConfig
from helix4d.train.data.batch import collate
from helix4d.train.data.dataset import ClipReader, TrainingClip
from helix4d.train.data.schedule import Schedule
from helix4d.train.latents.encode import EncodeConfig, encode
from helix4d.train.latents.jobs import LatentConfig
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.network import build_network
from helix4d.train.objective import elements, squared_errors
from helix4d.train.samples.sampling import sample_video
from tests.train import world

CPU = torch.device("cpu")
STAGES = ["structure", "geometry", "material"]


@pytest.fixture(scope="module")
def mixed(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Shards with two static clips and an animated one, and their latents."""
    shards = world.write_shards(tmp_path_factory.mktemp("mixed"), ["flag", "ladybug", "butterfly"], stills=2)
    output = tmp_path_factory.mktemp("mixed_latents")
    encode(EncodeConfig(shards, output, str(models), latents=LatentConfig(occupancy_resolution=8), serial=True))
    return shards, output


@pytest.fixture(params=STAGES)
def setting(request: Any, mixed: tuple[Path, Path], models: Path, tmp_path: Path) -> tuple[Any, ClipReader]:
    """The configuration of a stage, and a reader of its clips."""
    shards, latents = mixed
    config = world.train_config(request.param, latents, shards, models, tmp_path, steps=4)
    return config, ClipReader(config.data, config.stage)


def clips_of(reader: ClipReader) -> list[TrainingClip]:
    return [reader.training_clip(number, (0, 0, 0), 0.0) for number in range(len(reader))]


def test_a_static_clip_is_noisy_and_has_a_loss(setting: tuple[Any, ClipReader]) -> None:
    """An untrained network returns zero, so the error of the static clips is all of their squared velocity."""
    config, reader = setting
    clips = clips_of(reader)
    assert [len(clip.latent.lengths) for clip in clips] == [1, 1, world.FRAMES]
    network = build_network(config, CPU)
    with torch.no_grad():
        network.out_layer.weight.zero_()
    errors = squared_errors(network, collate(clips, CPU), torch.zeros(5, 5, 16), True)
    for clip, error in zip(clips[:2], errors, strict=False):
        wanted = velocity(clip.latent.clean, clip.noise).square()
        torch.testing.assert_close(error, wanted.sum(), rtol=1e-5, atol=1e-5)
        assert elements([clip], True) == elements([clip], False) == wanted.numel()
    assert elements(clips[2:], True) < elements(clips[2:], False)


def test_a_packed_batch_has_the_errors_of_its_clips(setting: tuple[Any, ClipReader]) -> None:
    config, reader = setting
    clips = clips_of(reader)
    network = build_network(config, CPU)
    with torch.no_grad():
        network.out_layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    cond = torch.randn(5, 5, 16, generator=torch.Generator().manual_seed(1))
    together = squared_errors(network, collate(clips, CPU), cond, True)
    pieces = cond.split([len(clip.latent.lengths) for clip in clips])
    for clip, piece, error in zip(clips, pieces, together, strict=True):
        alone = squared_errors(network, collate([clip], CPU), piece, True)
        torch.testing.assert_close(alone[0], error, rtol=1e-4, atol=1e-4)
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    gradients = torch.autograd.grad(together[0], trained, allow_unused=True)
    assert any(bool(gradient.abs().max() > 0) for gradient in gradients if gradient is not None)


def test_training_takes_both(setting: tuple[Any, ClipReader]) -> None:
    config, reader = setting
    costs = reader.costs(2)
    assert max(costs[:2]) < costs[2], "a static clip has fewer tokens, so more of them share a microbatch"
    shares = Schedule(costs, config.seed).shares(0, 6, 2, costs[2])
    assert sorted(draw.clip for rank in shares for piece in rank for draw in piece) == [0, 0, 1, 1, 2, 2]
    state = train(config)
    assert state.step == 4
    assert state.broken == ()
    losses = [line["loss"] for line in read_metrics(config.folder)]
    assert all(math.isfinite(loss) and loss > 0 for loss in losses)


def test_a_run_draws_them_by_weight(
    mixed: tuple[Path, Path], models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    values = world.train_values("geometry", *mixed[::-1], models, tmp_path)
    values["data"]["mix"] = {"static": 1, "animated": 3}
    config = world.build(TrainConfig, {**values, "steps": 3, "batch": 4}, "test")
    original, frames = step.squared_errors, []

    def counted(network: Any, batch: Any, *others: Any) -> torch.Tensor:
        frames.append(sorted(batch.frames))
        return original(network, batch, *others)

    monkeypatch.setattr(step, "squared_errors", counted)
    train(config)
    assert frames == 3 * [[1, 3, 3, 3]]
    with pytest.raises(ConfigError, match=r"data\.mix was None|data\.mix\.static was"):
        train(replace(config, steps=4, data=replace(config.data, mix=None)))
    with pytest.raises(ConfigError, match="not both 0"):
        Mix(static=0, animated=0)


def test_a_static_clip_is_sampled_without_an_anchor(setting: tuple[Any, ClipReader]) -> None:
    config, reader = setting
    network = build_network(config, CPU)
    latent = reader.latent(0)
    sampled = sample_video(network, latent, torch.zeros(1, 5, 16), SamplerConfig(steps=2), 0)
    assert sampled.shape == latent.clean.shape
    assert torch.isfinite(sampled).all()
    assert not torch.equal(sampled, latent.clean), "there is nothing to be given"
