from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helix4d.model.networks.flow import FlowTransformer
from helix4d.model.networks.flow_matching import velocity
from helix4d.train.config import OptimizerConfig, Stage
from helix4d.train.data.batch import collate
from helix4d.train.data.dataset import ClipReader, TrainingClip, draw_time
from helix4d.train.loop import train
from helix4d.train.metrics import read_metrics
from helix4d.train.network import build_network
from helix4d.train.objective import elements, squared_errors
from helix4d.train.optimizer import AdaptiveClip, MovingAverage, learning_rate
from tests.train import world

CPU = torch.device("cpu")


@pytest.fixture(params=["structure", "geometry", "material"])
def stage_clips(
    request: Any, latents: Path, shards: Path, models: Path, tmp_path: Path
) -> tuple[FlowTransformer, list[TrainingClip]]:
    """The network of a stage and three clips, the first with an empty frame."""
    config = world.train_config(request.param, latents, shards, models, tmp_path)
    reader = ClipReader(config.data, config.stage)
    network = build_network(config, CPU)
    with torch.no_grad():
        network.out_layer.weight.normal_(generator=torch.Generator().manual_seed(0))
    return network, [reader.training_clip(i, (0, 0, 0), 0.5) for i in range(3)]


@pytest.mark.parametrize("first_frame", [True, False])
def test_a_packed_batch_has_the_errors_of_its_clips(
    stage_clips: tuple[FlowTransformer, list[TrainingClip]], first_frame: bool
) -> None:
    network, clips = stage_clips
    cond = torch.randn(3, 3, 5, 16, generator=torch.Generator().manual_seed(1))
    together = squared_errors(network, collate(clips, CPU), cond.flatten(0, 1), first_frame)
    for clip, one, error in zip(clips, cond, together, strict=True):
        alone = squared_errors(network, collate([clip], CPU), one, first_frame)
        torch.testing.assert_close(alone[0], error, rtol=1e-4, atol=1e-4)


def test_frame_0_is_clean_and_has_no_loss(stage_clips: tuple[FlowTransformer, list[TrainingClip]]) -> None:
    """An untrained network returns zero, so its error is the squared velocity of the other frames."""
    network, clips = stage_clips
    with torch.no_grad():
        network.out_layer.weight.zero_()
    batch = collate(clips, CPU)
    errors = squared_errors(network, batch, torch.zeros(9, 5, 16), True)
    for clip, error in zip(clips, errors, strict=True):
        wanted = velocity(clip.latent.clean, clip.noise).square()
        first = 1 if clip.latent.coords is None else clip.latent.lengths[0]
        torch.testing.assert_close(error, wanted[first:].sum(), rtol=1e-5, atol=1e-5)
    assert elements(clips, True) < elements(clips, False)


def test_dropout_zeroes_all_frames_of_a_clip(stage_clips: tuple[FlowTransformer, list[TrainingClip]]) -> None:
    network, clips = stage_clips
    batch = collate(clips, CPU)
    cond = torch.randn(9, 5, 16, generator=torch.Generator().manual_seed(1))
    dropped = cond * ~batch.dropped[torch.arange(3).repeat_interleave(3)][:, None, None]
    a, b = (squared_errors(network, batch, c, True) for c in (cond, dropped))
    assert torch.equal(a, b)


def test_time_is_drawn_as_in_trellis2() -> None:
    source = np.random.Generator(np.random.PCG64(0))
    structure = [draw_time(source, Stage.STRUCTURE) for _ in range(4000)]
    uniform = [draw_time(source, Stage.MATERIAL) for _ in range(4000)]
    assert np.median(structure) == pytest.approx(1 / (1 + np.exp(-1)), abs=0.02)
    assert np.mean(uniform) == pytest.approx(0.5, abs=0.02)


def test_clipping_uses_the_history_once_it_is_full() -> None:
    config = OptimizerConfig(clip_history=4, clip_percentile=50, max_norm=1.0)
    clip = AdaptiveClip(config)
    parameter = torch.nn.Parameter(torch.zeros(1))
    for norm in (0.1, 0.2, 0.3, 5.0):
        assert clip.threshold() == 1.0
        parameter.grad = torch.full((1,), norm)
        clip.apply([parameter], torch.tensor(norm))
        clip.record(norm)
    assert float(parameter.grad[0]) == pytest.approx(1.0, rel=1e-4)
    assert clip.threshold() == pytest.approx(0.25)
    assert AdaptiveClip(config, clip.history).threshold() == clip.threshold()


def test_average_and_warmup() -> None:
    parameter = torch.nn.Parameter(torch.zeros(2, dtype=torch.float32))
    average = MovingAverage({"p": parameter}, OptimizerConfig(ema=0.9))
    with torch.no_grad():
        parameter.fill_(1.0)
    average.update({"p": parameter}, 0)
    torch.testing.assert_close(average.tensors["p"], torch.full((2,), 0.1))
    rates = [learning_rate(OptimizerConfig(lr=1.0, warmup=3), step) for step in range(5)]
    assert rates == [0.25, 0.5, 0.75, 1.0, 1.0]


def test_bfloat16_with_recomputation_and_frozen_weights(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    losses = []
    for precision, checkpointing in (("float32", "none"), ("bfloat16", "keep_attention")):
        values = world.train_values("geometry", latents, shards, models, tmp_path / precision)
        values["network"] |= {"precision": precision, "checkpointing": checkpointing}
        values["network"]["trainable"] = ["blocks.*.self_attn.*", "out_layer.*"]
        config = world.build(world.TrainConfig, values, "test")
        train(config)
        losses.append([line["loss"] for line in read_metrics(config.folder)])
    assert losses[1] == pytest.approx(losses[0], rel=0.02)
