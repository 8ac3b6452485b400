from __future__ import annotations

from pathlib import Path

import pytest
import torch
from PIL import Image

from helix4d.train.checkpoint import list_checkpoints, load_checkpoint
from helix4d.train.config import Stage
from helix4d.train.loop import train
from tests.train import world


@pytest.mark.parametrize("stage", list(Stage))
def test_previews_show_clips_without_side_effects(
    stage: Stage, latents: Path, shards: Path, models: Path, tmp_path: Path
) -> None:
    plain = world.train_config(stage.value, latents, shards, models, tmp_path / "plain", steps=4)
    values = {**world.train_values(stage.value, latents, shards, models, tmp_path / "shown"), "steps": 4}
    values["run"] |= {"preview_every": 2, "preview_clips": 2, "preview_split": "train", "preview_models": str(models)}
    shown = world.build(world.TrainConfig, values, "test")
    train(plain)
    train(shown)
    a, b = (load_checkpoint(list_checkpoints(config.folder)[-1]) for config in (plain, shown))
    assert all(torch.equal(a.model[name], b.model[name]) for name in a.model)
    pictures = sorted((shown.folder / "previews").rglob("*.webp"))
    assert [p.parent.name for p in pictures] == ["step_00000002"] * 2 + ["step_00000004"] * 2
    assert Image.open(pictures[0]).size == (384, 192)
