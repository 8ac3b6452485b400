"""From folders to a table: a fake ActionBench with two items, and predictions with all kinds of faults."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from helix4d.assets import Clip, bake, bake_still, normalize
from helix4d.assets.samples import SAMPLES
from helix4d.core import ConfigError
from helix4d.evaluation import AlignmentSettings, Protocol, Surface, sample_surface
from helix4d.evaluation.metrics.geometry import geometry_metrics
from helix4d.evaluation.metrics.metric import Item, Measure, Metric, Need, NotAvailable, SetMetric, View
from helix4d.evaluation.runner import EvaluateRun, run_evaluation
from helix4d.evaluation.tables.table import Cell, Table
from tests.evaluation.predictions import write_actionbench_item, write_stills, write_truth
from tests.evaluation.shapes import moved

FRAMES = 3
SEED = 44


@dataclass(frozen=True)
class Fake:
    """A bench of two sample assets: its folder, and the surfaces of its items in glTF axes."""

    data: Path
    surfaces: dict[str, list[Surface]]


def asset_surfaces(name: str, folder: Path) -> list[Surface]:
    path = folder / f"{name}.glb"
    path.write_bytes(SAMPLES[name]())
    clip, _ = normalize(bake(path, frames=FRAMES))
    return [Surface(y_up(frame.vertices), frame.faces) for frame in clip.frames]


def y_up(points: np.ndarray) -> np.ndarray:
    return np.stack([points[:, 0], points[:, 2], -points[:, 1]], axis=1)


def z_up(points: np.ndarray) -> np.ndarray:
    return np.ascontiguousarray(np.stack([points[:, 0], -points[:, 2], points[:, 1]], axis=1))


@pytest.fixture(scope="module")
def fake(tmp_path_factory: pytest.TempPathFactory) -> Fake:
    folder = tmp_path_factory.mktemp("bench")
    surfaces = {name: asset_surfaces(name, folder) for name in ("flag", "sprout")}
    for name, found in surfaces.items():
        write_actionbench_item(folder / "data" / name, [Surface(z_up(s.vertices), s.faces) for s in found])
    return Fake(folder, surfaces)


def write_predictions(folder: Path, surfaces: dict[str, list[Surface]]) -> Path:
    for name, found in surfaces.items():
        write_stills(folder / name, found)
    return folder


def config(fake: Fake, predictions: Path, output: Path, **changes: Any) -> EvaluateRun:
    settings: dict[str, Any] = {
        "bench": "actionbench",
        "data": fake.data,
        "predictions": predictions,
        "output": output,
        "method": "actionmesh",
        "device": "cpu",
        "pruned": True,
        "points": 3000,
        "alignment_points": 60,
        "pages": False,
        "workers": 1,
    }
    return EvaluateRun(**{**settings, **changes})


def cells(table: Table) -> dict[str, Cell]:
    return dict(table.rows[0].cells)


def values(output: Path, key: str) -> dict[str, float]:
    content = json.loads((output / "items" / f"{key}.json").read_text())
    return {name: outcome.get("value") for name, outcome in content["metrics"].items()}


def contents(output: Path) -> dict[str, bytes]:
    return {
        path.relative_to(output).as_posix(): path.read_bytes()
        for path in sorted(output.rglob("*"))
        if path.is_file() and path.name != ".lock"
    }


def test_a_perfect_prediction_and_a_drifting_one(fake: Fake, tmp_path: Path) -> None:
    perfect = write_predictions(tmp_path / "perfect", fake.surfaces)
    drifting = {
        name: [moved(surface, (0.0, 0.25 * frame, 0.0)) for frame, surface in enumerate(found)]
        for name, found in fake.surfaces.items()
    }
    write_predictions(tmp_path / "drifting", drifting)
    best = run_evaluation(config(fake, perfect, tmp_path / "a"))
    worse = run_evaluation(config(fake, tmp_path / "drifting", tmp_path / "b", beside=(tmp_path / "a",)))
    for cell in cells(best).values():
        assert cell.count == 2
        assert cell.value is not None
        # Typical distance between two samplings of one surface by 3000 points.
        assert cell.value < 0.06
        assert cell.low is not None
        assert cell.high is not None
        assert cell.low <= cell.value <= cell.high
    three, four = cells(worse)["cd_3d"].value, cells(worse)["cd_4d"].value
    assert three is not None
    assert four is not None
    assert four > 3 * three
    assert [row.method for row in worse.rows[:2]] == ["ActionMesh", "ActionMesh"]
    assert worse.rows[1].cells == best.rows[0].cells
    assert (tmp_path / "b" / "table.md").read_text().count("measured") == 2


def test_identical_points_have_zero_distance(fake: Fake, tmp_path: Path) -> None:
    """If the truth is sampled from the prediction by the protocol itself, only rounding errors remain."""
    write_stills(tmp_path / "out" / "flag", fake.surfaces["flag"])
    stills = [bake_still(tmp_path / "out" / "flag" / f"mesh_{n}.glb").frames[0] for n in range(FRAMES)]
    surfaces = [Surface(frame.vertices, frame.faces) for frame in stills]
    truth = torch.stack([sample_surface(s, 3000, SEED + frame) for frame, s in enumerate(surfaces)]).numpy()
    write_truth(tmp_path / "bench" / "data" / "flag", truth)
    run = config(fake, tmp_path / "out", tmp_path / "a", data=tmp_path / "bench", metrics=("cd_3d", "cd_4d"))
    table = run_evaluation(run)
    assert cells(table)["cd_3d"].value == pytest.approx(0, abs=1e-6)
    assert cells(table)["cd_4d"].value == pytest.approx(0, abs=1e-6)


def _changing(surfaces: Sequence[Surface]) -> list[Surface]:
    """The same shapes, with the triangles of frame 1 in another order."""
    return [s if n != 1 else Surface(s.vertices, s.faces[::-1].copy()) for n, s in enumerate(surfaces)]


def test_faults_affect_only_their_own_values_and_are_counted(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": _changing(fake.surfaces["flag"])})
    write_stills(predictions / "sprout", fake.surfaces["sprout"])
    (predictions / "sprout" / "mesh_1.glb").write_bytes(b"glTF is not what this is")
    table = run_evaluation(config(fake, predictions, tmp_path / "a"))
    assert table.rows[0].failed == 1
    assert "mesh_1.glb" in table.failures["sprout"]
    found = cells(table)
    assert (found["cd_3d"].count, found["cd_4d"].count, found["cd_m"].count) == (1, 1, 0)
    assert found["cd_m"].value is None
    assert "topology" in (found["cd_m"].reason or "")
    text = (tmp_path / "a" / "table.md").read_text()
    assert "(1 of 2)" in text
    assert "n/a (0 of 2)" in text
    assert "| 1 of 2 | measured |" in text

    # After a fix, a rerun computes only the failed item.
    kept = (tmp_path / "a" / "items" / "flag.json").stat().st_mtime_ns
    write_stills(predictions / "sprout", fake.surfaces["sprout"])
    mended = run_evaluation(config(fake, predictions, tmp_path / "a"))
    assert mended.rows[0].failed == 0
    assert cells(mended)["cd_3d"].count == 2
    assert (tmp_path / "a" / "items" / "flag.json").stat().st_mtime_ns == kept


@dataclass(frozen=True, kw_only=True)
class Height(Metric):
    """Mean height of the prediction's vertices; records the items for which it is computed."""

    asked: list[str]
    missing: list[str]

    def available(self) -> str | None:
        return self.missing[0] if self.missing else None

    def evaluate(self, item: Item) -> float | NotAvailable:
        self.asked.append(item.key)
        return float(np.mean([frame.vertices[:, 2].mean() for frame in item.prediction.frames]))


@dataclass(frozen=True, kw_only=True)
class Middles(SetMetric):
    """Spread of the predictions' centers."""

    asked: list[str]

    def features(self, item: Item) -> np.ndarray | NotAvailable:
        self.asked.append(item.key)
        return item.prediction.frames[0].vertices.mean(axis=0)

    def reduce(self, features: Sequence[np.ndarray]) -> float | NotAvailable:
        return float(np.linalg.norm(features[0] - features[-1]))


def quick_metrics() -> tuple[Height, Middles]:
    height = Height(
        name="height",
        label="Height",
        higher_is_better=True,
        needs=frozenset(),
        definition="a mean",
        asked=[],
        missing=[],
    )
    middles = Middles(
        name="middles", label="Middles", higher_is_better=False, needs=frozenset(), definition="a distance", asked=[]
    )
    return height, middles


def quick(fake: Fake, predictions: Path, output: Path, known: Sequence[Measure], **options: Any) -> Table:
    changes = options.pop("changes", {})
    names = tuple(metric.name for metric in known)
    return run_evaluation(config(fake, predictions, output, metrics=names, **changes), known=known, **options)


def test_a_killed_run_resumes_to_the_same_bytes(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    protocol = Protocol(points=500, alignment_points=50, alignment=AlignmentSettings(steps=5))
    known = [*quick_metrics(), *geometry_metrics(protocol)]
    quick(fake, predictions, tmp_path / "whole", known)

    def kill(done: int, items: int, key: str) -> None:
        if done == 1:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        quick(fake, predictions, tmp_path / "killed", known, progress=kill)
    assert not (tmp_path / "killed" / "table.json").exists()
    height = known[0]
    assert isinstance(height, Height)
    height.asked.clear()
    quick(fake, predictions, tmp_path / "killed", known)
    assert height.asked == ["sprout"]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")

    # A third run computes nothing; a damaged result and lost features are recomputed to the same bytes.
    height.asked.clear()
    (tmp_path / "killed" / "items" / "flag.middles.npy").unlink()
    (tmp_path / "killed" / "items" / "sprout.json").write_text("{")
    quick(fake, predictions, tmp_path / "killed", known)
    assert height.asked == ["sprout"]
    assert contents(tmp_path / "killed") == contents(tmp_path / "whole")


def test_workers_write_the_same_bytes(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    protocol = Protocol(points=500, alignment_points=50, alignment=AlignmentSettings(steps=5))
    for workers in (1, 2):
        known = geometry_metrics(protocol)
        table = quick(fake, predictions, tmp_path / str(workers), known, changes={"workers": workers})
        assert cells(table)["cd_m"].count == 2
    assert contents(tmp_path / "1") == contents(tmp_path / "2")


def test_metrics_are_computed_once_their_weights_are_available(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    height, middles = quick_metrics()
    height.missing.append("no weights: run `hf download them`")
    table = quick(fake, predictions, tmp_path / "a", [height, middles])
    assert height.asked == []
    assert cells(table)["height"].count == 0
    assert "hf download them" in (tmp_path / "a" / "table.md").read_text()
    assert cells(table)["middles"].count == 2
    height.missing.clear()
    middles.asked.clear()
    table = quick(fake, predictions, tmp_path / "a", [height, middles])
    assert (height.asked, middles.asked) == (["flag", "sprout"], [])
    assert cells(table)["height"].count == 2


@dataclass(frozen=True, kw_only=True)
class Odd(Metric):
    """A metric that misbehaves."""

    act: Callable[[], float]

    def evaluate(self, item: Item) -> float | NotAvailable:
        return self.act()


def _breaks() -> float:
    raise np.linalg.LinAlgError("singular")


@pytest.mark.parametrize(
    ("act", "reason"), [(_breaks, "LinAlgError: singular"), (lambda: float("nan"), "returned nan")]
)
def test_a_failing_metric_affects_only_its_own_value(
    fake: Fake, tmp_path: Path, act: Callable[[], float], reason: str
) -> None:
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    height, _ = quick_metrics()
    odd = Odd(name="odd", label="Odd", higher_is_better=True, needs=frozenset(), definition="odd", act=act)
    table = quick(fake, predictions, tmp_path / "a", [height, odd])
    assert reason in (cells(table)["odd"].reason or "")
    assert cells(table)["height"].count == 2


def test_a_failed_metric_is_retried(fake: Fake, tmp_path: Path) -> None:
    """A temporary failure, such as low memory or a truncated weight file, must not be permanent."""
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    height, _ = quick_metrics()
    odd = Odd(name="odd", label="Odd", higher_is_better=True, needs=frozenset(), definition="odd", act=_breaks)
    quick(fake, predictions, tmp_path / "a", [height, odd])
    height.asked.clear()
    table = quick(fake, predictions, tmp_path / "a", [height, replace(odd, act=lambda: 1.0)])
    assert (cells(table)["odd"].count, cells(table)["odd"].value) == (2, 1.0)
    assert height.asked == []


def test_a_rendering_failure_affects_only_the_image(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": fake.surfaces["flag"]})

    def draw(clip: Clip, view: View) -> np.ndarray:
        raise MemoryError("out of memory")

    table = quick(fake, predictions, tmp_path / "a", quick_metrics(), draw_clip=draw, changes={"pages": True})
    assert cells(table)["height"].count == 1
    assert (tmp_path / "a" / "pages" / "flag.html").is_file()


def test_rows_of_another_protocol_are_rejected(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": fake.surfaces["flag"]})
    for output, points in (("a", 50), ("b", 60)):
        run_evaluation(config(fake, predictions, tmp_path / output, limit=1, points=points, alignment_points=9))
    other = config(fake, predictions, tmp_path / "b", limit=1, points=60, alignment_points=9, beside=(tmp_path / "a",))
    with pytest.raises(ConfigError, match="its protocol"):
        run_evaluation(other)


def test_other_settings_need_another_output(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", fake.surfaces)
    known = quick_metrics()
    quick(fake, predictions, tmp_path / "a", known)
    with pytest.raises(ConfigError, match=r"method\.axes was 'x,-z,y', is 'x,y,z'"):
        quick(fake, predictions, tmp_path / "a", known, changes={"axes": "x,y,z"})
    with pytest.raises(ConfigError, match=r"height\.definition was"):
        quick(fake, predictions, tmp_path / "a", [replace(known[0], definition="a median")])
    with pytest.raises(ConfigError, match="unknown metric weight"):
        run_evaluation(config(fake, predictions, tmp_path / "b", metrics=("weight",)))
    with pytest.raises(ConfigError, match="mutually exclusive"):
        config(fake, predictions, tmp_path / "b", exact=True)


def test_missing_predictions_and_limits(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": fake.surfaces["flag"]})
    known = quick_metrics()
    one = quick(fake, predictions, tmp_path / "a", known, changes={"limit": 1})
    assert (one.items, one.rows[0].failed) == (1, 0)
    both = quick(fake, predictions, tmp_path / "a", known)
    assert (both.items, both.rows[0].failed) == (2, 1)
    assert "no prediction" in both.failures["sprout"]


def test_pages_show_video_and_prediction(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": fake.surfaces["flag"]})
    drawn: list[View] = []

    def draw(clip: Clip, view: View) -> np.ndarray:
        drawn.append(view)
        assert np.abs(clip.bounds()).max() <= 0.5
        return np.full((len(clip.frames), view.image_size, view.image_size, 4), 200, np.uint8)

    for _ in range(2):
        quick(fake, predictions, tmp_path / "a", quick_metrics(), draw_clip=draw, changes={"pages": True})
    assert len(drawn) == 1, "images are reused"
    page = (tmp_path / "a" / "pages" / "flag.html").read_text()
    for kind in ("video", "prediction"):
        (picture,) = (tmp_path / "a" / "pages").glob(f"flag.{kind}.*.webp")
        assert picture.name in page
    assert "no prediction" in (tmp_path / "a" / "pages" / "sprout.html").read_text()
    index = (tmp_path / "a" / "pages" / "index.html").read_text()
    assert 'href="flag.html"' in index
    assert 'href="sprout.html"' in index


def test_needs_decide_which_metrics_are_computed(fake: Fake, tmp_path: Path) -> None:
    predictions = write_predictions(tmp_path / "out", {"flag": fake.surfaces["flag"]})
    height, _ = quick_metrics()
    textured = replace(height, needs=frozenset({Need.TEXTURE}))
    table = quick(fake, predictions, tmp_path / "a", [textured], changes={"limit": 1})
    assert height.asked == []
    assert not cells(table)["height"].defined
