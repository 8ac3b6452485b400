from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml

from helix4d.cli.main import main
from helix4d.core import ConfigError, Helix4DError
from helix4d.train.config import TrainConfig, read_config
from helix4d.train.export import read_run
from helix4d.train.latents.encode import EncodeConfig, encode
from helix4d.train.latents.jobs import LatentConfig
from helix4d.train.loop import train
from helix4d.train.study.ablations import GROUPS, OURS, StudyRun, Variant, format_study, launch_process, study_ablations
from helix4d.train.study.distances import aligned_chamfer, chamfer
from helix4d.train.study.held_out import RunFigures
from tests.packages import needs
from tests.train import world

ABLATIONS = Path(__file__).parents[2] / "configs/ablations"
# With three frames all are in the window, so "full" would differ only in the anchor.
SPATIAL = Variant("attention_spatial", {"pattern": "spatial"})
TWO = {"Attention": {"ours": OURS, "spatial": SPATIAL}}


@pytest.fixture(scope="module")
def folders(models: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path, Path]:
    """Two clips for training and one held out."""
    shards = world.write_shards(tmp_path_factory.mktemp("shards"), ["flag", "sprout"])
    world.write_shards(shards, ["butterfly"], split="val", first=2)
    latents = tmp_path_factory.mktemp("latents")
    encode(EncodeConfig(shards, latents, str(models), latents=LatentConfig(occupancy_resolution=8), serial=True))
    return latents, shards, models


def settings(stage: str, folders: tuple[Path, Path, Path], steps: int = 6) -> TrainConfig:
    config = world.train_config(stage, *folders, folders[0], steps=steps)
    return replace(config, run=replace(config.run, preview_models=str(folders[2])))


def launcher(launched: list[str], fails: Callable[[str], bool] = lambda name: False) -> Callable[[Path], int]:
    """Train in this process, which saves the seconds of an import."""

    def launch(path: Path) -> int:
        launched.append(path.stem)
        if fails(path.stem):
            path.with_suffix(".log").write_text("went well\nout of memory\n")
            return 137
        train(read_config(path))
        return 0

    return launch


@pytest.mark.parametrize("stage", ["structure", "geometry"])
def test_a_study_of_two_variants_and_two_seeds(stage: str, folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    launched: list[str] = []

    def study() -> str:
        return study_ablations(settings(stage, folders), (0, 1), tmp_path, "val", 8, TWO, launcher(launched))

    table = study()
    assert launched == ["ours_seed0", "attention_spatial_seed0", "ours_seed1", "attention_spatial_seed1"]
    assert "seeds 0, 1; evaluated on 1 clips of the val split (held out from training)" in table
    assert "| 2 of 2 | 0 of 4 |" in table
    assert (tmp_path / "ablations.md").read_text() == table
    runs = json.loads((tmp_path / "ablations.json").read_bytes())["runs"]
    assert [f"{run['variant']}_seed{run['seed']}" for run in runs] == launched
    assert all(0 < run["figures"]["aligned"] <= run["figures"]["in_place"] < 1 for run in runs)
    patterns = [read_run(tmp_path / name).network.video.pattern for name in launched]
    assert patterns == 2 * ["window_anchor", "spatial"]
    assert runs[0]["figures"]["loss"] != runs[2]["figures"]["loss"], "seeds differ"

    again = study()
    assert len(launched) == 4, "finished runs are not repeated"
    assert again == table


def test_a_failed_run_is_listed_and_retried(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    config, launched = settings("structure", folders), list[str]()
    broken = launcher(launched, lambda name: name.startswith("attention_spatial"))
    table = study_ablations(config, (0,), tmp_path, "val", 8, TWO, broken)
    assert "| spatial | failed | failed | failed | failed | 0 of 1, 1 failed | failed |" in table
    assert "- attention_spatial_seed0 failed: exit status 137 (out of memory)" in table
    assert "failed" not in study_ablations(config, (0,), tmp_path, "val", 8, TWO, launcher(launched))
    assert launched == ["ours_seed0", "attention_spatial_seed0", "attention_spatial_seed0"]


@needs("tyro")
def test_a_run_in_its_own_process(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    table = study_ablations(settings("structure", folders, steps=1), (0,), tmp_path, "val", 1, {"One": {"ours": OURS}})
    assert "| ours |" in table
    assert "1 of 1 |" in table
    assert "step 1" in (tmp_path / "ours_seed0.log").read_text()
    assert launch_process(tmp_path / "none.json") == 2


def test_invalid_studies_are_rejected_before_training(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    launched: list[str] = []

    def study(config: TrainConfig, seeds: tuple[int, ...] = (0,), split: str = "val") -> None:
        study_ablations(config, seeds, tmp_path, split, 8, TWO, launcher(launched))

    config = settings("structure", folders)
    with pytest.raises(ConfigError, match="no clips in the test split; choose another split"):
        study(config, split="test")
    with pytest.raises(ConfigError, match="without duplicates"):
        study(config, seeds=(1, 1))
    with pytest.raises(ConfigError, match="generates no surface"):
        study(settings("material", folders))
    with pytest.raises(ConfigError, match="preview_models"):
        study(replace(config, run=replace(config.run, preview_models=None)))
    assert launched == []


def test_runs_with_other_settings_are_rejected(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    one = {"One": {"ours": OURS}}
    config = settings("structure", folders, steps=2)
    study_ablations(config, (0,), tmp_path, "val", 1, one, launcher([]))
    for other in (replace(config, batch=1), replace(config, steps=1)):
        with pytest.raises(Helix4DError, match=r"started with different settings|has 2 steps, more than the study's 1"):
            study_ablations(other, (0,), tmp_path, "val", 1, one, launcher([]))


def test_variants_match_the_configuration_files(folders: tuple[Path, Path, Path], tmp_path: Path) -> None:
    names = [variant.name for rows in GROUPS.values() for variant in rows.values() if variant is not OURS]
    assert len(names) == len(set(names)) == 7
    base = settings("geometry", folders)
    ours = asdict(OURS.apply(base, 0, tmp_path).network)
    for variant in {v.name: v for rows in GROUPS.values() for v in rows.values()}.values():
        run = variant.apply(base, 5, tmp_path)
        assert (run.seed, run.name, run.run.preview_every) == (5, f"{variant.name}_seed5", 0)
        network = asdict(run.network)
        changed = {k: v for k, v in network["video"].items() if v != ours["video"][k]}
        if variant is not OURS:
            expected = yaml.safe_load((ABLATIONS / f"{variant.name}.yaml").read_text())["network"]
            assert changed == expected.get("video", {})
            assert network["first_frame"] == expected.get("first_frame", True)


def test_mean_and_deviation_of_known_numbers() -> None:
    def figures(cd: float, seconds: float) -> RunFigures:
        return RunFigures(cd, 2 * cd, 10 * cd, seconds, 4, 1)

    runs = [
        StudyRun("ours", 0, figures(0.01, 1.0)),
        StudyRun("ours", 1, figures(0.03, 2.0)),
        StudyRun("attention_spatial", 0, figures(0.05, 3.0)),
        StudyRun("attention_spatial", 1, None, "exit status 1"),
    ]
    facts = {
        "stage": "geometry",
        "steps": 7,
        "batch": 2,
        "seeds": [0, 1],
        "split": "train",
        "keys": ["a", "b"],
        "trained_on": "train",
    }
    table = format_study(runs, TWO, facts)
    cells = "| 0.0200 ± 0.0141 | 0.0400 ± 0.0283 | 1.00 ± 0.00 | 0.200 ± 0.141 | 2 of 2 | 2 of 10 |"
    assert f"| ours {cells}" in table
    assert "| spatial | 0.0500 | 0.1000 | 3.00 | 0.500 | 1 of 2, 1 failed | 1 of 5 |" in table
    assert "- attention_spatial_seed1 failed: exit status 1" in table
    assert "the training clips" in table


def test_distances_of_known_points() -> None:
    points = torch.from_numpy(np.random.default_rng(0).uniform(-0.5, 0.5, (500, 3)) * (1, 0.6, 0.3)).float()
    assert chamfer(points, points) == 0
    moved = 1.02 * points + torch.tensor([0.02, 0.0, -0.01])
    assert chamfer(moved, points) > 0.01
    assert aligned_chamfer(moved, points) < 1e-4
    assert chamfer(points[:1], points[:1] + torch.tensor([0.0, 0.3, 0.4])) == pytest.approx(1.0), (
        "both directions are summed"
    )


@needs("tyro")
def test_the_command_reports_errors(
    folders: tuple[Path, Path, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    values = world.train_values("geometry", *folders, tmp_path)
    values["run"]["preview_models"] = str(folders[2])
    path = tmp_path / "config.yaml"
    path.write_text(yaml.safe_dump(values))
    command = ["study", "ablations", "--config", str(path), "--output", str(tmp_path / "study"), "--split", "test"]
    assert main(command) == 2
    assert "no clips in the test split" in capsys.readouterr().err
