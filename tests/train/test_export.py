from __future__ import annotations

import json
from pathlib import Path

import torch

from model.checkpoint import Pipeline
from model.config import AttentionPattern
from model.flow import SparseFlow
from tests.train import world
from train.checkpoint import list_checkpoints, load_checkpoint
from train.export import export_run
from train.loop import train


def test_an_exported_stage_is_a_checkpoint_of_trellis2_with_our_settings(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    values = world.train_values("geometry", latents, shards, models, tmp_path)
    values["network"]["video"] |= {"pattern": "causal"}
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    assert export_run(config.folder, tmp_path / "out") == "shape_slat_flow_model_512"
    pipeline = Pipeline.from_pretrained(str(tmp_path / "out"))
    network = pipeline.networks["shape_slat_flow_model_512"]
    assert isinstance(network, SparseFlow)
    assert network.video.pattern is AttentionPattern.CAUSAL
    assert len(pipeline.args["shape_slat_normalization"]["mean"]) == world.LATENT
    checkpoint = load_checkpoint(list_checkpoints(config.folder)[-1])
    state = network.state_dict()
    assert all(torch.equal(state[name], tensor) for name, tensor in checkpoint.ema.items())
    assert not all(torch.equal(state[name], tensor) for name, tensor in checkpoint.model.items())
    # A network goes out without its data, where the statistics are at hand.
    settings = json.loads((config.folder / "config.json").read_bytes())
    settings["data"] |= {"latents": str(tmp_path / "gone"), "statistics": "trellis2"}
    (config.folder / "config.json").write_text(json.dumps(settings))
    export_run(config.folder, tmp_path / "raw", ema=False, step=4)
    state = Pipeline.from_pretrained(str(tmp_path / "raw")).networks["shape_slat_flow_model_512"].state_dict()
    earlier = load_checkpoint(config.folder / "checkpoints/step_00000004")
    assert all(torch.equal(state[name], tensor) for name, tensor in earlier.model.items())
