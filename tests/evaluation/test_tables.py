"""Means, intervals, counts and published rows."""

from __future__ import annotations

import csv
import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

from helix4d.core import ConfigError
from helix4d.evaluation.methods.benches import Bench, BenchItem
from helix4d.evaluation.methods.methods import METHODS
from helix4d.evaluation.metrics.geometry import geometry_metrics
from helix4d.evaluation.metrics.metric import Item, Need, NotAvailable, SetMetric
from helix4d.evaluation.results import ItemResult, Outcome, write_features
from helix4d.evaluation.tables.paper_tables import TRANSCRIBED, published_rows
from helix4d.evaluation.tables.table import (
    Table,
    bootstrap_interval,
    build_row,
    column,
    markdown,
    measured_rows,
    published,
    write_table,
)


@dataclass(frozen=True, kw_only=True)
class Spread(SetMetric):
    """A simple set metric: the standard deviation of all features."""

    def features(self, item: Item) -> np.ndarray | NotAvailable:
        raise NotImplementedError

    def reduce(self, features: Sequence[np.ndarray]) -> float | NotAvailable:
        if len(features) < 2:
            return NotAvailable("at least two items are needed")
        return float(np.std(features))


def _unread() -> None:
    raise AssertionError("a table reads no item")


def bench(count: int) -> Bench:
    items = tuple(BenchItem(f"item_{number}", _unread) for number in range(count))  # type: ignore[arg-type]
    return Bench("actionbench", "ActionBench", frozenset({Need.TRUTH}), items)


SPREAD = Spread(name="spread", label="Spread", higher_is_better=True, needs=frozenset(), definition="a deviation")


def test_the_interval_contains_the_mean_and_narrows_with_items() -> None:
    rng = np.random.default_rng(0)
    few, many = rng.normal(3, 1, 16), rng.normal(3, 1, 1024)
    low, high = bootstrap_interval(many.tolist(), "a") or (0, 0)
    # The normal approximation is accurate for 1024 values.
    assert low == pytest.approx(many.mean() - 1.96 * many.std() / 32, abs=0.01)
    assert high == pytest.approx(many.mean() + 1.96 * many.std() / 32, abs=0.01)
    wide = bootstrap_interval(few.tolist(), "a") or (0, 0)
    assert wide[1] - wide[0] > 4 * (high - low)
    assert bootstrap_interval(few.tolist(), "a") == wide
    assert bootstrap_interval(few.tolist(), "b") != wide
    assert bootstrap_interval([1.0], "a") is None


def test_a_row_counts_items_with_a_value(tmp_path: Path) -> None:
    cd_3d, _, cd_m = geometry_metrics()
    results = [
        ItemResult("item_0", "done", outcomes={"cd_3d": Outcome(1.0), "cd_m": Outcome(reason="topology changes")}),
        ItemResult("item_1", "done", outcomes={"cd_3d": Outcome(3.0), "cd_m": Outcome(reason="topology changes")}),
        ItemResult("item_2", "failed", "no prediction"),
    ]
    row = build_row(bench(3), METHODS["actionmesh"], [cd_3d, cd_m], results, tmp_path)
    assert (row.cells["cd_3d"].value, row.cells["cd_3d"].count, row.failed) == (2.0, 2, 1)
    assert (row.cells["cd_m"].value, row.cells["cd_m"].count) == (None, 0)
    assert row.cells["cd_m"].reason == "topology changes (2 of 3)"


def test_set_metrics_are_reduced_from_stored_features(tmp_path: Path) -> None:
    results = []
    for number in range(3):
        sha256 = write_features(tmp_path, f"item_{number}", "spread", np.array([number * 2.0]))
        results.append(ItemResult(f"item_{number}", "done", outcomes={"spread": Outcome(features=sha256)}))
    row = build_row(bench(3), METHODS["helix4d"], [SPREAD], results, tmp_path)
    assert row.cells["spread"].value == pytest.approx(np.std([0, 2, 4]))
    assert (row.cells["spread"].count, row.cells["spread"].low) == (3, None)
    alone = build_row(bench(1), METHODS["helix4d"], [SPREAD], results[:1], tmp_path)
    assert alone.cells["spread"].reason == "at least two items are needed"


def test_texture_metrics_are_undefined_for_methods_without_textures(tmp_path: Path) -> None:
    textured = Spread(
        name="spread", label="Spread", higher_is_better=True, needs=frozenset({Need.TEXTURE}), definition="a deviation"
    )
    row = build_row(bench(1), METHODS["actionmesh"], [textured], [ItemResult("item_0", "done")], tmp_path)
    table = Table("actionbench", "ActionBench", 1, "", [column(textured)], [row], [])
    assert "| ActionMesh | – | 0 of 1 | measured |" in markdown(table)


def test_published_rows_are_added_and_marked() -> None:
    rows = {row.method: row for row in published_rows("helix4dbench")}
    assert rows["Helix4D"].values["clip_n"] == 0.7569
    assert rows["Mesh4D"].values == {
        "clip": 0.8533, "clip_n": 0.7399, "ulip_2": 0.4353, "uni3d": 0.3691, "dreamsim": 0.3025,
    }  # fmt: skip
    assert "dreamsim" not in rows["ActionMesh"].values
    assert {row.origin for row in rows.values()} == {TRANSCRIBED}
    shown = published(bench(1), geometry_metrics())
    assert [(row.method, row.cells["cd_3d"].value, row.cells["cd_4d"].value) for row in shown] == [
        ("ActionMesh", 0.053, 0.081),
        ("Helix4D", 0.051, 0.093),
        ("ActionMesh", 0.053, 0.081),
    ]


def test_the_three_files_agree(tmp_path: Path) -> None:
    cd_3d, cd_4d, _ = geometry_metrics()
    results = [
        ItemResult("item_0", "done", outcomes={"cd_3d": Outcome(0.25), "cd_4d": Outcome(reason="odd | reason")}),
        ItemResult("item_1", "done", outcomes={"cd_3d": Outcome(0.75), "cd_4d": Outcome(0.5)}),
        ItemResult("item_2", "failed", "mesh_00.glb: has no bytes [empty_file]"),
    ]
    row = build_row(bench(3), METHODS["actionmesh"], [cd_3d, cd_4d], results, tmp_path)
    columns = [column(cd_3d), column(cd_4d)]
    failures = {"item_2": "mesh_00.glb: has no bytes [empty_file]"}
    rows = [row, *published(bench(3), [cd_3d, cd_4d])]
    table = Table("actionbench", "ActionBench", 3, "abc", columns, rows, ["device: cpu"], failures)
    write_table(tmp_path, table)

    lines = list(csv.DictReader((tmp_path / "table.csv").read_text().splitlines()))
    assert lines[0]["method"] == "ActionMesh"
    assert (float(lines[0]["cd_3d"]), lines[0]["cd_3d_n"], lines[0]["items"], lines[0]["failed"]) == (
        0.5,
        "2",
        "3",
        "1",
    )
    assert lines[1]["origin"] == TRANSCRIBED
    assert (lines[1]["cd_3d"], lines[1]["cd_3d_n"]) == ("0.053", "")
    content = json.loads((tmp_path / "table.json").read_text())
    assert content["rows"][0]["cells"]["cd_4d"]["count"] == 1
    text = (tmp_path / "table.md").read_text()
    assert "CD-3D ↓" in text
    assert "(2 of 3)" in text
    assert "1 of 3" in text
    assert "empty_file" in text
    assert "device: cpu" in text

    like = Table("actionbench", "ActionBench", 3, "abc", columns, [], [])
    assert measured_rows(tmp_path, like) == [row]
    with pytest.raises(ConfigError, match="differ from the 2 of this run"):
        measured_rows(tmp_path, Table("actionbench", "ActionBench", 2, "abd", columns, [], []))
    with pytest.raises(ConfigError, match="its definition of"):
        other = [{**columns[0], "definition": "squared"}]
        measured_rows(tmp_path, Table("actionbench", "ActionBench", 3, "abc", other, [], []))
