"""`helix4d filter` on ledgers and folders, and `helix4d curate` with the list that it writes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import bake, content_hash
from helix4d.assets.samples import SAMPLES
from helix4d.cli.main import main
from helix4d.core import AssetState, FormatError, ReasonCode, write_json
from helix4d.curation.config import CurateConfig, RunConfig
from helix4d.curation.filters.geometry_hash import NUMBERS, similarity
from helix4d.curation.filters.measures import measure
from helix4d.curation.filters.near_duplicates import LEAST_SIMILARITY, near_duplicates
from helix4d.curation.filters.thresholds import FILTERS, FilterConfig, MeasuredClip
from helix4d.curation.plan.exclusions import ExcludedAsset, read_exclusions, write_exclusions
from helix4d.curation.plan.plan import KEY_DIGITS
from helix4d.curation.plan.plan_file import read_plan, write_plan
from helix4d.curation.plan.run_plan import exclusions_of, plan_run
from helix4d.curation.report.filter_report import decide
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.sources.listing import Exclusion
from helix4d.curation.verify.output import verify
from helix4d.curation.verify.plan import read_output
from tests.conftest import ASSETS, NO_ASSETS
from tests.curation.runs import curate, hashes


def hash_of(numbers: list[int]) -> str:
    return "".join(f"{number:04x}" for number in numbers)


def digits(number: int) -> str:
    return f"{number:016x}"


def clip(asset: int, index: int = 0, license: str = "", shape: int | None = None, **measures: float) -> MeasuredClip:  # noqa: A002
    numbers = np.random.default_rng(1000 + asset if shape is None else shape).integers(0, 1 << 16, NUMBERS).tolist()
    good = {"duration_s": 1.0, "first_frame": 1.0, "size": 0.5, "motion": 0.5, "visible": 1.0, "faces": 100.0 + asset}
    return MeasuredClip(f"{digits(asset)}_{index}", "walk", {**good, **measures}, license, "", hash_of(numbers))


def write_ledger(folder: Path, clips: dict[str, list[MeasuredClip]]) -> None:
    ledger = Ledger(folder / "ledger.jsonl")
    for asset, own in clips.items():
        ledger.append(Outcome(asset, AssetState.DONE, clips=tuple(own)))
    ledger.append(Outcome("broken.glb", AssetState.FAILED, ReasonCode.CORRUPT_FILE))


@pytest.fixture
def output(tmp_path: Path) -> Path:
    """Six assets: b is mostly hidden, c does not move, d has one clip that moves and one that does not, f equals a."""
    folder = tmp_path / "out"
    write_ledger(
        folder,
        {
            "a.glb": [clip(1, license="by", shape=7)],
            "b.glb": [clip(2, license="by-nc", visible=0.25)],
            "c.glb": [clip(3, license="by", motion=0.001)],
            "d.glb": [clip(4, 0, motion=0.0), clip(4, 1)],
            "e.glb": [clip(5)],
            "f.glb": [clip(6, license="cc0", shape=7)],
        },
    )
    return folder


def rows(printed: str) -> dict[str, list[str]]:
    """Map the first word of each line to the others."""
    return {words[0]: words[1:] for line in printed.splitlines() if (words := line.split())}


def test_a_dry_run_shows_what_each_filter_would_keep(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    before = sorted(output.rglob("*"))
    assert main(["filter", str(output), "--dry-run", "--min-visible", "0.5", "--near-duplicates", "0.95"]) == 0
    printed = capsys.readouterr().out
    assert "measured: 7 clips of 6 assets\nwithout measures: 1 asset (1 failed: corrupt_file)\n" in printed
    table = rows(printed)
    assert table["visible"][:5] == ["≥", "0.5", "6", "1", "1"]
    assert table["motion"][:5] == ["≥", "0.01", "5", "2", "2"]
    assert table["faces"][:4] == ["-", "7", "0", "0"]
    assert table["faces"][4:11] == ["101", "101", "102", "104", "104", "106", "106"]
    assert table["near_duplicate"] == ["<", "0.95", "6", "1", "1"]
    assert table["kept:"][0] == "3"
    assert "3 of 7 clips, 3 of 6 assets" in printed
    assert "f.glb: near-duplicate of a.glb (0000000000000001_0), similarity 1.00 [near_duplicate]" in printed
    assert "licenses: 2 by, 1 by-nc, 1 cc0, 3 unknown" in printed
    assert sorted(output.rglob("*")) == before


def test_licenses_are_counted_apart_from_unknown_ones(output: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["filter", str(output), "--dry-run", "--licenses", "CC0,CC Attribution", "--show", "0"]) == 0
    printed = capsys.readouterr().out
    table = rows(printed)
    assert table["license"] == ["by,cc0", "6", "1", "1"]
    assert table["license_unknown"] == ["by,cc0", "4", "3", "2"]  # one of them stands still as well
    assert "dropped:" not in printed


def test_first_drops_add_up(output: Path) -> None:
    report = decide(Ledger(output / "ledger.jsonl").outcomes.values(), FilterConfig(licenses="by"), 0.9)
    assert len(report.decisions) == 7
    assert [decision.clip.key for decision in report.decisions] == sorted(d.clip.key for d in report.decisions)
    excluded = {one.asset: one.why.reason for one in report.excluded()}
    assert excluded == {
        "b.glb": ReasonCode.LICENSE,
        "c.glb": ReasonCode.NO_MOTION,
        "d.glb": ReasonCode.NO_MOTION,  # both clips are dropped, the first of them for that
        "e.glb": ReasonCode.LICENSE_UNKNOWN,
        "f.glb": ReasonCode.LICENSE,
    }


def test_an_asset_is_kept_while_one_of_its_clips_is(output: Path, tmp_path: Path) -> None:
    listed = tmp_path / "exclude.json"
    arguments = ["filter", str(output), "--write", str(listed), "--min-visible", "0.5", "--near-duplicates", "0.95"]
    assert main(arguments) == 0
    assert {prefix: why.reason for prefix, why in read_exclusions(listed).items()} == {
        digits(2): ReasonCode.HIDDEN_SURFACE,
        digits(3): ReasonCode.NO_MOTION,
        digits(6): ReasonCode.NEAR_DUPLICATE,
    }
    content = json.loads(listed.read_text())
    assert content["excluded"][digits(6)]["asset"] == "f.glb"
    assert content["settings"]["near_duplicates"] == 0.95
    first = listed.read_bytes()
    assert main(arguments) == 0
    assert listed.read_bytes() == first


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "either --dry-run (print only) or --write FILE"),
        (["--dry-run", "--write", "x.json"], "either --dry-run (print only) or --write FILE"),
        (["--dry-run", "--near-duplicates", "0.5"], "must be between 0.766 and 1"),
        (["--dry-run", "--min-visible", "7"], "--min-visible 7.0: must be between 0 and 1"),
        (["--dry-run", "--licenses", "gpl"], "'gpl' is not a Creative Commons license"),
    ],
)
def test_mistakes_are_explained(
    output: Path, arguments: list[str], message: str, capfd: pytest.CaptureFixture[str]
) -> None:
    try:
        status = main(["filter", str(output), *arguments])
    except SystemExit:  # the parser may find it first
        status = 2
    assert status == 2
    assert message in re.sub(r"[│\s]+", " ", "".join(capfd.readouterr()))


def test_the_newer_measures_are_judged_and_counted(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    plain = {
        "distinct_poses": 16.0,
        "start_jump": 1.0,
        "backdrop_share": 0.0,
        "emissive_share": 0.0,
        "outline_share": 0.0,
    }
    odd = [{"distinct_poses": 2.0}, {"start_jump": 8.0}, {"backdrop_share": 0.9}, {"emissive_share": 1.0}]
    clips = [{**plain, **one} for one in [{}, *odd, {"outline_share": 0.5}, {"outline_share": 0.5, "start_jump": 9.0}]]
    write_ledger(tmp_path, {f"{n}.glb": [clip(n, **measures)] for n, measures in enumerate(clips)})
    thresholds = ["--min-distinct-poses", "8", "--max-start-jump", "2", "--max-backdrop-share", "0.5"]
    thresholds += ["--max-emissive-share", "0.5", "--max-outline-share", "0.2"]
    listed = tmp_path / "exclude.json"
    assert main(["filter", str(tmp_path), "--write", str(listed), *thresholds]) == 0
    table = rows(capsys.readouterr().out)
    assert table["distinct_poses"][:5] == ["≥", "8", "6", "1", "1"]
    assert table["start_jump"][:5] == ["≤", "2", "5", "2", "2"]
    assert table["backdrop_share"][:5] == ["≤", "0.5", "6", "1", "1"]
    assert table["emissive_share"][:5] == ["≤", "0.5", "6", "1", "1"]
    assert table["outline_share"][:5] == ["≤", "0.2", "5", "2", "1"]
    assert {prefix: why.reason for prefix, why in read_exclusions(listed).items()} == {
        digits(1): ReasonCode.FEW_POSES,
        digits(2): ReasonCode.START_JUMP,
        digits(3): ReasonCode.BACKDROP,
        digits(4): ReasonCode.EMISSIVE,
        digits(5): ReasonCode.OUTLINE,
        digits(6): ReasonCode.START_JUMP,
    }
    assert main(["filter", str(tmp_path), "--dry-run"]) == 0
    table = rows(capsys.readouterr().out)
    assert [table[name][:4] for name in plain] == [["-", "7", "0", "0"]] * 5


def test_clips_of_older_versions_keep_their_place_and_are_reported(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    older = dict.fromkeys((one.measure for one in FILTERS), 1.0) | {"flicker": 0.0}
    newer = {name: older.pop(name) for name in ("distinct_poses", "start_jump", "backdrop_share")}
    newer |= {name: older.pop(name) for name in ("emissive_share", "outline_share")}
    clips = {"old.glb": [clip(1, **older)], "new.glb": [clip(2, **older, **newer)]}
    clips["late.glb"] = [MeasuredClip(f"{digits(3)}_0", "", {"first_frame": 0.0, "duration_s": 1.0})]
    write_ledger(tmp_path, clips)
    arguments = ["filter", str(tmp_path), "--dry-run", "--max-emissive-share", "0.5"]
    assert main(arguments) == 0
    printed = capsys.readouterr().out
    assert (
        "1 clip, measured by an older version, without distinct_poses, start_jump, backdrop_share, emissive_share, "
        "outline_share: thresholds keep them; to measure them, pass the assets and a new --measures folder\n"
    ) in printed
    assert rows(printed)["emissive_share"][:5] == ["≤", "0.5", "2", "1", "1"]
    write_ledger(tmp_path, {"old.glb": [clip(1, **older, **newer)]})
    assert main(arguments) == 0
    assert "older version" not in capsys.readouterr().out


def test_ledgers_without_measures_are_explained(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    Ledger(tmp_path / "ledger.jsonl").append(Outcome("a.glb", AssetState.DONE))
    assert main(["filter", str(tmp_path), "--dry-run"]) == 2
    assert "no clip of its 1 assets has measures" in capfd.readouterr().err


# Near-duplicates.


@settings(deadline=None)
@given(st.data())
def test_near_duplicates_match_an_exhaustive_search(data: st.DataObject) -> None:
    least = data.draw(st.sampled_from([LEAST_SIMILARITY, 0.9, 1.0]))
    bases = [np.random.default_rng(n).integers(0, 1 << 16, NUMBERS) for n in range(3)]
    texts = []
    for _ in range(data.draw(st.integers(0, 12))):
        numbers = bases[data.draw(st.integers(0, 2))].copy()
        changed = data.draw(st.lists(st.integers(0, NUMBERS - 1), max_size=20, unique=True))
        numbers[changed] ^= 1
        texts.append(hash_of(numbers.tolist()))
    found = near_duplicates(texts, least)
    kept: list[int] = []
    for number, text in enumerate(texts):
        best = max(kept, key=lambda earlier: similarity(texts[earlier], text), default=None)
        if best is not None and similarity(texts[best], text) >= least:
            assert found[number].similarity == similarity(texts[best], text)
            assert similarity(texts[found[number].earlier], text) == found[number].similarity
        else:
            assert number not in found
            kept.append(number)


def test_the_order_of_the_ledger_does_not_matter(output: Path) -> None:
    outcomes = list(Ledger(output / "ledger.jsonl").outcomes.values())
    forwards, backwards = (decide(some, FilterConfig(), 0.95) for some in (outcomes, outcomes[::-1]))
    assert forwards.decisions == backwards.decisions
    assert forwards.excluded() == backwards.excluded()


# The list.


def test_damaged_lists_are_rejected(tmp_path: Path) -> None:
    path = tmp_path / "exclude.json"
    why = Exclusion(ReasonCode.NEAR_DUPLICATE, "as another")
    write_exclusions(path, [ExcludedAsset("a.glb", digits(1), why)], {})
    assert read_exclusions(path) == {digits(1): why}
    good = json.loads(path.read_bytes())

    def broken(**changes: Any) -> None:
        write_json(path, {**good, **changes})

    for change, message in (
        ({"version": 99}, "written by a newer helix4d"),
        ({"excluded": {"a.glb": good["excluded"][digits(1)]}}, "expected the first 16 digits"),
        ({"excluded": {digits(1): {"reason": "crashed", "message": ""}}}, "not a reason to filter"),
        ({"excluded": {digits(1): {"reason": "ugly", "message": ""}}}, "malformed exclusion"),
        ({"excluded": [1]}, "malformed exclusion"),
    ):
        broken(**change)
        with pytest.raises(FormatError, match=message):
            read_exclusions(path)
    path.write_text("no JSON")
    with pytest.raises(FormatError, match="the exclusion list is truncated or corrupt"):
        read_exclusions(path)
    with pytest.raises(FormatError, match="cannot read the exclusion list"):
        read_exclusions(tmp_path / "none.json")


# The whole command, with Ray.


@pytest.mark.slow
def test_curate_filters_what_the_filter_command_predicted(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, measures, listed = tmp_path / "source", tmp_path / "measures", tmp_path / "exclude.json"
    source.mkdir()
    for name in ("blob_star", "flag", "treasure_chest", "butterfly", "campfire"):
        (source / f"{name}.glb").write_bytes(SAMPLES[name]())
    (source / "again.glb").write_bytes(_by_another_program((source / "butterfly.glb").read_bytes()))
    # A third of the chest is inside, half of the fire glows; the star and the flag have too many triangles.
    chosen = {"min_visible": 0.8, "max_emissive_share": 0.5, "max_faces": 6000, "licenses": "cc0"}
    thresholds = [f"--{name.replace('_', '-')}={value}" for name, value in chosen.items()]
    looking = ["filter", str(source), "--measures", str(measures), "--frames", "4", "--near-duplicates", "0.95"]
    assert main([*looking, "--dry-run", *thresholds]) == 0
    table = rows(capfd.readouterr().out)
    first = {name: table[name][4] for name in ("visible", "emissive_share", "faces")}
    assert first == {"visible": "1", "emissive_share": "1", "faces": "2"}
    assert table["near_duplicate"] == ["<", "0.95", "5", "1", "1"]
    before = (measures / "ledger.jsonl").read_bytes()
    assert main([*looking, "--write", str(listed)]) == 0
    assert (measures / "ledger.jsonl").read_bytes() == before  # nothing is measured twice

    quick = {"views": 0, "resolution": 32, **chosen}
    curate(source, tmp_path / "one", workers=1, exclude=listed, **quick)
    outcomes = Ledger(tmp_path / "one" / "ledger.jsonl").outcomes
    twins = {name: outcomes.pop(name).reason for name in ("again.glb", "butterfly.glb")}
    assert set(twins.values()) == {None, ReasonCode.NEAR_DUPLICATE}
    assert {name: outcome.reason for name, outcome in outcomes.items()} == {
        "blob_star.glb": ReasonCode.FACE_LIMIT,
        "campfire.glb": ReasonCode.EMISSIVE,
        "flag.glb": ReasonCode.FACE_LIMIT,
        "treasure_chest.glb": ReasonCode.HIDDEN_SURFACE,
    }
    for outcome in outcomes.values():
        assert [clip.reason for clip in outcome.clips] == [outcome.reason]
        assert outcome.clips[0].measures == Ledger(measures / "ledger.jsonl").outcomes[outcome.asset].clips[0].measures
    counts = json.loads((tmp_path / "one" / "summary.json").read_text())["counts"]
    dropped = {"face_limit": 2, "emissive": 1, "hidden_surface": 1, "near_duplicate": 1}
    expected = {"done": 1} | {f"filtered: {reason}": number for reason, number in dropped.items()}
    assert counts == expected
    assert main(["verify", str(tmp_path / "one"), "--workers", "1"]) == 0

    # The same shards as of a source without the excluded one, whatever the number of workers.
    next(source / name for name, reason in twins.items() if reason).unlink()
    curate(source, tmp_path / "two", workers=2, **quick)
    assert hashes(tmp_path / "one") == hashes(tmp_path / "two")


def test_an_output_keeps_its_exclusion_list(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    source, output, listed, other = (tmp_path / name for name in ("source", "out", "exclude.json", "other.json"))
    source.mkdir()
    for name in ("flag", "butterfly"):
        (source / f"{name}.glb").write_bytes(SAMPLES[name]())
    prefix = content_hash(source / "flag.glb")[:KEY_DIGITS]
    write_exclusions(listed, [ExcludedAsset("flag.glb", prefix, Exclusion(ReasonCode.FLICKER, "blinks"))], {})
    write_exclusions(other, [], {})
    config = CurateConfig(str(source), output, run=RunConfig(exclude=listed))
    plan, sources = plan_run(config)
    assert list(plan.left_out) == ["flag.glb"]
    write_plan(config, sources, exclusions_of(config))
    arguments = ["curate", "--source", str(source), "--output", str(output), "--dry-run"]
    for same in ([], ["--exclude", str(listed)]):
        assert main([*arguments, *same]) == 0
        assert "1 asset left out, filtered: flicker" in capfd.readouterr().out
    assert main([*arguments, "--exclude", str(other)]) == 2
    assert "was started with a different exclusion list" in capfd.readouterr().err
    without = read_plan(output)
    assert without is not None
    assert without.exclude == str(listed)
    assert without.plan() == plan_run(config)[0]
    # `verify` reports that the ledger has no line for it; a new plan needs the list again.
    problems = [problem for problem in verify(output, workers=1).problems if problem.key == "flag.glb"]
    assert [problem.what for problem in problems] == ["no line, but the plan leaves it out as flicker (blinks)"]
    assert f"--exclude {listed}" in read_output(output).remedies.replan()[1]


@pytest.mark.slow
@pytest.mark.skipif(not (ASSETS / "animated").is_dir(), reason=NO_ASSETS)
def test_a_real_asset_and_its_compressed_copy_are_near_duplicates(animated_assets: Path, hostile_assets: Path) -> None:
    pair = [animated_assets / "rigged_figure.glb", hostile_assets / "h03_draco_required.glb"]
    if not all(path.exists() for path in pair):
        pytest.skip("the pair is not among the assets")
    hashes_of = [measure(bake(path), f"{number}_0").geometry_hash for number, path in enumerate(pair)]
    assert near_duplicates(hashes_of, 0.95).keys() == {1}


def _by_another_program(glb: bytes) -> bytes:
    name = b"Helix4D assets.samples"
    assert name in glb
    return glb.replace(name, b"Helix4D assets.SAMPLES")
