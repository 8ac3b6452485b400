"""`helix4d evaluate` with learned metrics: numbers where weights are, commands where they are not."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from helix4d.assets import Clip
from helix4d.evaluation.metrics.metric import View
from helix4d.evaluation.metrics.registry import metrics
from helix4d.evaluation.runner import EvaluateRun, run_evaluation
from tests.evaluation.predictions import write_actionbench_item, write_stills
from tests.evaluation.shapes import moved, tripod


def draw(clip: Clip, view: View) -> np.ndarray:
    pictures = np.zeros((len(clip.frames), 32, 32, 4), np.uint8)
    pictures[:, 4:28, 4:28] = (int(view.azimuth_deg) // 2, 90 if view.shows == "normal" else 30, 60, 255)
    return pictures


def test_learned_metrics_are_asked_by_name(tiny: Path, tmp_path: Path) -> None:
    frames = [moved(tripod(), (0.05 * t, 0, 0)) for t in range(2)]
    for key in ("a", "b"):
        write_actionbench_item(tmp_path / "bench" / "data" / key, frames)
        write_stills(tmp_path / "out" / key, frames)
    config = EvaluateRun(
        bench="actionbench",
        data=tmp_path / "bench",
        predictions=tmp_path / "out",
        output=tmp_path / "results",
        method="actionmesh",
        textured=True,
        metrics=("clip_n", "ulip_2", "fvd_set_videogpt"),
        weights=tiny,
        device="cpu",
        pages=False,
    )
    table = run_evaluation(config, draw_clip=draw)
    cells = table.rows[0].cells
    assert (cells["clip_n"].count, cells["ulip_2"].count) == (2, 2)
    assert -1 <= (cells["ulip_2"].value or 9) <= 1
    assert "hf download LanguageBind/Open-Sora-Plan-v1.0.0" in (cells["fvd_set_videogpt"].reason or "")
    assert any("laion2b_s39b_b160k" in str(column["checkpoint"]) for column in table.columns)


def test_the_registry_has_the_columns_of_the_papers_table() -> None:
    names = [metric.name for metric in metrics()]
    paper = ["cd_3d", "cd_4d", "cd_m", "clip", "clip_n", "ulip_2", "uni3d", "dreamsim", "fvd_set", "fvd_pair"]
    assert names == [*paper, "fvd_set_videogpt", "fvd_pair_videogpt", "lpips_vgg", "lpips_alex"]
