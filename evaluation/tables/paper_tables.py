"""Published numbers, shown next to ours; the paper's are from a third party's transcript and not verified."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from helix4d.evaluation.methods.benches import BenchName

TRANSCRIBED = "paper, transcribed by a third party, not verified"
LEADERBOARD = "ActionBench's leaderboard"


@dataclass(frozen=True)
class PublishedRow:
    """Published numbers of a method by metric name; unpublished metrics are absent."""

    method: str
    origin: str
    values: Mapping[str, float]


def published_rows(bench: BenchName) -> tuple[PublishedRow, ...]:
    """Return the rows published for a bench: Table 1 for Helix4DBench, Table 2 for the others."""
    return _ROWS[bench]


def published_notes(bench: BenchName) -> tuple[str, ...]:
    """Return notes on published numbers of a benchmark that do not belong to any column."""
    if bench != "helix4dbench":
        return ()
    return (
        "the paper's FVD is in no column, because the paper does not state its convention: SS4D 1046, "
        f"Mesh4D 979, Motion 3-to-4 955, Helix4D 950 ({TRANSCRIBED})",
    )


def _table_1(method: str, *values: float | None) -> PublishedRow:
    named = zip(("clip", "clip_n", "ulip_2", "uni3d", "dreamsim"), values, strict=True)
    return PublishedRow(method, TRANSCRIBED, {name: value for name, value in named if value is not None})


def _table_2(method: str, cd_3d: float, cd_4d: float) -> PublishedRow:
    return PublishedRow(method, TRANSCRIBED, {"cd_3d": cd_3d, "cd_4d": cd_4d})


_ROWS: Mapping[BenchName, tuple[PublishedRow, ...]] = {
    "helix4dbench": (
        _table_1("SS4D", 0.8468, None, 0.4191, 0.3739, 0.2745),
        _table_1("ShapeGen4D", None, 0.6876, 0.4169, 0.3687, None),
        _table_1("Mesh4D", 0.8533, 0.7399, 0.4353, 0.3691, 0.3025),
        _table_1("Motion 3-to-4", 0.8674, 0.7442, 0.4331, 0.3768, 0.2697),
        _table_1("ActionMesh", None, 0.7156, 0.4226, 0.3761, None),
        _table_1("Helix4D", 0.8723, 0.7569, 0.4600, 0.4063, 0.2593),
    ),
    "actionbench": (
        _table_2("ActionMesh", 0.053, 0.081),
        _table_2("Helix4D", 0.051, 0.093),
        PublishedRow("ActionMesh", LEADERBOARD, {"cd_3d": 0.053, "cd_4d": 0.081, "cd_m": 0.148}),
    ),
    "texverse-heldout": (_table_2("ActionMesh", 0.056, 0.111), _table_2("Helix4D", 0.045, 0.097)),
}
