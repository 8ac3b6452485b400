"""`--static also` on hostile and still files: each ends as its index says, and a still becomes one frame."""

from __future__ import annotations

import csv
from functools import cache
from pathlib import Path

import pytest

from helix4d.assets import content_hash
from helix4d.assets.sampling import Static
from helix4d.core import AssetState, ReasonCode
from helix4d.curation.config import SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.shards.writer import part_members
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock
from helix4d.curation.work.worker import _work
from tests.conftest import ASSETS, CASES, NO_ASSETS, NO_CASES, files

FRAMES = 3
STILL = frozenset({"no_animation", "no_motion", "zero_duration"})
"""Verdicts on files whose geometry is well formed: a static sample can be made from them."""
_HOSTILE = [path for path in files(ASSETS / "hostile", "*") if path.is_file()]
_FEW = [path for path in _HOSTILE if path.name[:3] in ("h01", "h02", "h10", "h13", "h18")]
STILL_CASES = {
    "glb_unaligned_json_chunk.glb": "is not animated",
    "only_invisible_surface_moves.glb": "nothing visible moves",
}
"""Files of the index of cases that are stills, and why."""


def ended(path: Path, folder: Path, static: Static) -> tuple[Outcome, int]:
    """Return the outcome of a file, and the number of frames of its sample, 0 without one."""
    folder.mkdir()
    config = SampleConfig(resolution=32, frames=FRAMES, views=0, static=static, filters=FilterConfig(max_tokens=None))
    job = AssetJob(path.name, path, content_hash(path), folder / "part", config, device="cpu")
    outcome = _work(job, Clock(lambda event: None))
    members = part_members(job.part) if outcome.state is AssetState.DONE else []
    return outcome, sum(name.endswith(".vxz") for name in members)


@cache
def _verdicts() -> dict[str, list[str]]:
    with open(ASSETS / "INDEX.tsv", encoding="utf-8", newline="") as stream:
        rows = csv.DictReader(stream, delimiter="\t")
        return {row["file"].rpartition("/")[2]: row["expected"].split(" or ") for row in rows}


def check_verdict(path: Path, folder: Path) -> None:
    """Check that a hostile file ends as its index says, except that stills become static samples."""
    outcome, frames = ended(path, folder, "also")
    if path.name not in _verdicts():
        pytest.skip("not in the index")
    allowed = []
    for verdict in _verdicts()[path.name]:
        reason = verdict.strip().removeprefix("reject:")
        allowed.append(("", FRAMES) if reason == "accept" else ("", 1) if reason in STILL else (reason, 0))
    assert (str(outcome.reason or ""), frames) in allowed, outcome


def check_case(path: Path, folder: Path) -> None:
    """Check that `--static also` only changes the outcome of stills."""
    before, frames_before = ended(path, folder / "never", "never")
    outcome, frames = ended(path, folder / "also", "also")
    if str(before.reason) in STILL:
        assert (outcome.state, frames) == (AssetState.DONE, 1), outcome
    else:
        assert (outcome.state, outcome.reason, frames) == (before.state, before.reason, frames_before)


@pytest.mark.skipif(not _HOSTILE, reason=NO_ASSETS)
@pytest.mark.parametrize("path", _FEW, ids=lambda path: path.stem)
def test_hostile_files(path: Path, tmp_path: Path) -> None:
    check_verdict(path, tmp_path / "also")


@pytest.mark.acceptance
@pytest.mark.skipif(not _HOSTILE, reason=NO_ASSETS)
@pytest.mark.parametrize("path", _HOSTILE, ids=lambda path: path.stem)
def test_all_hostile_files(path: Path, tmp_path: Path) -> None:
    check_verdict(path, tmp_path / "also")


@pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)
@pytest.mark.parametrize("name", STILL_CASES)
def test_stills_become_static_samples(name: str, tmp_path: Path) -> None:
    never, _ = ended(CASES / "files" / name, tmp_path / "never", "never")
    assert never.reason in (ReasonCode.NO_ANIMATION, ReasonCode.NO_MOTION), STILL_CASES[name]
    for static in ("also", "only"):
        outcome, frames = ended(CASES / "files" / name, tmp_path / static, static)
        assert (outcome.state, frames) == (AssetState.DONE, 1), outcome
        assert "motion" not in outcome.clips[0].measures


@pytest.mark.acceptance
@pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)
@pytest.mark.parametrize("path", files(CASES / "files", "*"), ids=lambda path: path.name)
def test_all_cases(path: Path, tmp_path: Path) -> None:
    check_case(path, tmp_path)
