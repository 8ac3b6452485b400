"""Runs every real and hostile asset through the pipeline: each ends in the state that the index expects."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import pytest

from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.shards.reader import ShardReader
from tests.conftest import ASSETS, NO_ASSETS
from tests.curation.runs import curate

INDEX = ASSETS / "INDEX.tsv"

pytestmark = pytest.mark.skipif(not INDEX.exists(), reason=NO_ASSETS)


def expected_states() -> dict[str, list[str]]:
    """Return asset -> verdicts that the index allows: `accept`, `reject:CODE`."""
    with open(INDEX, encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream, delimiter="\t"))
    present = {row["file"]: row["expected"].split(" or ") for row in rows if (ASSETS / row["file"]).exists()}
    assert present, f"{INDEX} names no file that is there"
    return present


def check(output: Path, frames: int, views: int) -> None:
    outcomes = Ledger(output / "ledger.jsonl").outcomes
    expected = expected_states()
    wrong = {
        name: f"{outcomes[name].state} {outcomes[name].reason} instead of {allowed}: {outcomes[name].message}"
        for name, allowed in expected.items()
        if not any(agrees(outcomes[name], verdict) for verdict in allowed)
    }
    assert not wrong
    summary = json.loads((output / "summary.json").read_text())
    assert sum(summary["counts"].values()) == summary["assets"] == len(outcomes)
    for tar in sorted(output.glob("*/*.tar")):
        reader = ShardReader(tar)
        for key in reader.keys():  # noqa: SIM118 (not a dict)
            members = reader.members(key)
            assert len([m for m in members if m.endswith(".vxz")]) == frames
            assert len([m for m in members if m.endswith(".webp")]) == frames * views


def agrees(outcome: Outcome, verdict: str) -> bool:
    return outcome.state == "done" if verdict == "accept" else verdict == f"reject:{outcome.reason}"


@pytest.mark.slow
def test_all_assets_end_as_the_index_expects(tmp_path: Path) -> None:
    curate(ASSETS, tmp_path, resolution=64, frames=4, views=1, image_size=48, assets_per_shard=16, workers=2)
    check(tmp_path, frames=4, views=1)


@pytest.mark.acceptance
def test_all_assets_at_256(tmp_path: Path) -> None:
    print(curate(ASSETS, tmp_path, resolution=256, frames=16, views=4, image_size=256, assets_per_shard=16, workers=2))
    check(tmp_path, frames=16, views=4)
