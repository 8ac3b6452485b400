from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch

from helix4d.core import ConfigError
from helix4d.model.checkpoint.checkpoint import Pipeline
from helix4d.model.networks.config import AttentionPattern
from helix4d.model.networks.flow import SparseFlow
from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.export import export_run
from helix4d.train.loop import train
from tests.train import world


def test_an_exported_stage_is_a_trellis2_checkpoint_with_our_settings(
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
    # With TRELLIS.2's statistics a network can be exported without its data.
    settings = json.loads((config.folder / "config.json").read_bytes())
    settings["data"] |= {"latents": str(tmp_path / "gone"), "statistics": "trellis2"}
    (config.folder / "config.json").write_text(json.dumps(settings))
    export_run(config.folder, tmp_path / "raw", ema=False, step=4)
    state = Pipeline.from_pretrained(str(tmp_path / "raw")).networks["shape_slat_flow_model_512"].state_dict()
    earlier = load_checkpoint(config.folder / "checkpoints/step_00000004")
    assert all(torch.equal(state[name], tensor) for name, tensor in earlier.model.items())


def test_incompatible_stages_are_not_exported_together(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    out = tmp_path / "out"
    for stage, image_size in (("geometry", 32), ("material", 32), ("material", 48)):
        values = {**world.train_values(stage, latents, shards, models, tmp_path / str(image_size)), "steps": 1}
        values["data"]["image_size"] = image_size
        config = world.build(world.TrainConfig, values, "test")
        train(config)
        if image_size == 32:
            export_run(config.folder, out)
            continue
        before = {path: path.read_bytes() for path in out.rglob("*") if path.is_file()}
        with pytest.raises(ConfigError, match="helix4d of the stages already there"):
            export_run(config.folder, out)
        assert {path: path.read_bytes() for path in out.rglob("*") if path.is_file()} == before


def test_a_stage_without_a_first_frame_is_not_exported(
    latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    """`helix4d sample` passes an anchor at timestep 0, on which such a stage was not trained."""
    values = {**world.train_values("geometry", latents, shards, models, tmp_path), "steps": 1}
    values["network"]["first_frame"] = False
    config = world.build(world.TrainConfig, values, "test")
    train(config)
    with pytest.raises(ConfigError, match="without a clean first frame"):
        export_run(config.folder, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    values["network"]["video"]["pattern"] = "spatial"  # as in the base network, frames do not interact
    alone = world.build(world.TrainConfig, {**values, "name": "alone"}, "test")
    train(alone)
    export_run(alone.folder, tmp_path / "out")
