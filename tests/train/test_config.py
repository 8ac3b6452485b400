from __future__ import annotations

from pathlib import Path

import pytest

from helix4d.core import ConfigError
from helix4d.core.settings import read_settings
from helix4d.model.networks.config import AttentionPattern
from helix4d.train.config import read_config
from helix4d.train.small_world.vae import VaeConfig

REPOSITORY = Path(__file__).parents[2]

BASE = """
name: base
stage: geometry
data: {latents: a, images: b}
network: {scratch: {resolution: 4}, video: {window: 3}}
optimizer: {lr: 2e-5}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "base.yaml").write_text(BASE)
    return tmp_path


def test_inheritance_merges_key_by_key(folder: Path) -> None:
    (folder / "child.yaml").write_text("inherits: base.yaml\nname: full\nnetwork: {video: {pattern: full}}\n")
    config = read_config(folder / "child.yaml", ["optimizer.lr=1e-4", "steps=5"])
    assert (config.name, config.steps, config.optimizer.lr) == ("full", 5, 1e-4)
    assert config.network.video.pattern is AttentionPattern.FULL
    assert config.network.video.window == 3
    assert config.data.latents == "a"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ("stage=shape", "'shape' is not one of"),
        ("optimzer.lr=1", "unknown settings"),
        ("steps=many", "expected int"),
        ("steps=0", "at least 1"),
        ("data=3", "expected a mapping"),
        ("steps", "expected key=value"),
        ("network.checkpoint=here", "either checkpoint"),
        ("network.video.kept=2", "between 0 and 1"),
        ("run.save_every=0", "save_every is 0"),
        ("run.keep_last=0", "keep_last is 0"),
        ("run.preview_every=-1", "must not be negative"),
        ("data.workers=0", "workers is 0"),
        ("data.ahead=-1", "must not be negative"),
        ("optimizer.clip_history=0", "clip_history is 0"),
        ("optimizer.betas=[0.9]", "expected 2 values, found 1"),
        ("run.device=cuda:1", "must be one of auto, cpu, cuda"),
        ("steps=[1", "the value is not YAML"),
    ],
)
def test_impossible_settings_are_refused(folder: Path, change: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        read_config(folder / "base.yaml", [change])


def test_a_circle_is_refused(folder: Path) -> None:
    (folder / "a.yaml").write_text("inherits: b.yaml")
    (folder / "b.yaml").write_text("inherits: a.yaml")
    with pytest.raises(ConfigError, match="inherits from itself"):
        read_config(folder / "a.yaml")


@pytest.mark.parametrize("path", sorted((REPOSITORY / "configs").rglob("*.yaml")), ids=lambda p: p.stem)
def test_every_experiment_of_the_repository_reads(path: Path) -> None:
    if path.name in ("base.yaml", "cluster.yaml", "kuberay.yaml", "skypilot.yaml"):
        pytest.skip("not an experiment")
    if path.name == "vae.yaml":
        assert read_settings(VaeConfig, path).steps
        return
    config = read_config(path)
    assert path.stem in (config.name, config.stage)
