"""`helix4d bench verify`: check every hash, count and image of a build, and list the videos to review.

A problem is a file that differs from what was written. A doubt is a video that may be useless although its files are
intact: its background was not removed, its outline flickers, or its first frame is not the still. Writes nothing.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.bench_builder.build import MANIFEST_FILE, PLAN, PLAN_FILE, STILLS, VIDEOS, WORK
from helix4d.bench_builder.entry import ENTRY_FILE, read_entry, read_frames, wrong_files
from helix4d.bench_builder.frames import HAZE, Pixels, choose_frames, pad_still
from helix4d.bench_builder.manifest import (
    Entry,
    Framing,
    Manifest,
    full_negative_prompt,
    full_prompt,
    read_manifest,
    verify_stills,
)
from helix4d.bench_builder.measures import Measures, coverage, drift, flicker
from helix4d.core import AssetState, ConfigError, FormatError, Helix4DError, sha256_json
from helix4d.core.locks import is_locked
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.work.progress import Steps

MIN_COVERAGE = 0.01
"""Share of the first frame; with less, it hardly shows an object."""
MAX_COVERAGE = 0.9
"""Share of any frame; with more, the background was hardly removed, because the square has a margin."""
MAX_SOFT = 0.5
"""Share of the visible pixels that are translucent; with more, the matte is a haze."""
MAX_FLICKER = 0.05
MAX_DRIFT = 0.1


@dataclass(frozen=True)
class Report:
    """Result of a check.

    Attributes:
        problems: one line per problem.
        doubts: one line per doubt.
        built: number of entries that are built.
        failed: entries that could not be built, with the reason.
        missing: ids of the entries that were not tried yet.
        checked_stills: whether drift was measured again, which needs the stills.
    """

    problems: tuple[str, ...]
    doubts: tuple[str, ...]
    built: int
    failed: tuple[str, ...]
    missing: tuple[str, ...]
    checked_stills: bool


def verify(output: Path, stills: Path | None = None) -> Report:
    """Check everything in an output of `helix4d bench build`.

    Args:
        output: output folder of the build.
        stills: folder with the stills; None for the one that the build downloads them to.

    Raises:
        ConfigError: if the folder is not such an output, or a run is writing to it.
        FormatError: if its plan or its manifest is damaged.
    """
    if is_locked(output):
        raise ConfigError(f"{output}: a run is writing to it: verify after it has finished")
    settings, manifest = _read_plan(output)
    stills = stills or output / STILLS
    problems: list[str] = []
    doubts: list[str] = []
    outcomes = Ledger(output / LEDGER_FILE).outcomes
    built = [entry for entry in manifest.entries if (output / VIDEOS / entry.id).exists()]
    with Steps("videos", len(built)) as steps:
        for entry in built:
            for problem in _check_entry(output / VIDEOS / entry.id, entry, manifest, settings, stills, doubts):
                problems.append(f"{VIDEOS}/{entry.id}/{problem}")
            steps.advance()
    problems += _check_ledger(manifest, outcomes, {entry.id for entry in built})
    problems += _check_strays(output, manifest)
    absent = [entry.id for entry in manifest.entries if entry not in built]
    failed = [_reason(outcomes[name]) for name in absent if _state(outcomes, name) is AssetState.FAILED]
    missing = [name for name in absent if name not in outcomes]
    has_stills = not verify_stills(manifest, stills, built)
    return Report(tuple(problems), tuple(doubts), len(built), tuple(failed), tuple(missing), has_stills)


def _read_plan(output: Path) -> tuple[dict[str, Any], Manifest]:
    path = output / PLAN_FILE
    if not path.is_file():
        raise ConfigError(f"{output}: has no {PLAN_FILE}: not an output of `helix4d bench build`")
    try:
        plan = json.loads(path.read_bytes())
    except ValueError as error:
        raise FormatError(f"{path}: not JSON ({error})") from error
    PLAN.check(plan, path)
    return plan["settings"], read_manifest(output / MANIFEST_FILE)


def _check_entry(
    folder: Path, entry: Entry, manifest: Manifest, settings: dict[str, Any], stills: Path, doubts: list[str]
) -> Iterator[str]:
    """Yield each problem as `file: problem`, and append doubts to the list."""
    try:
        facts = read_entry(folder)
    except Helix4DError as error:
        yield f"{ENTRY_FILE}: {error}"
        return
    if facts is None:
        yield f"{ENTRY_FILE}: missing: the folder is incomplete"
        return
    wrong = wrong_files(folder, facts)
    yield from (f"{name}: {problem}" for name, problem in wrong)
    yield from (f"{ENTRY_FILE}: {problem}" for problem in _check_facts(facts, entry, manifest, settings))
    framing, count = manifest.framing, manifest.framing.frames
    if facts["frames"] != count:
        yield f"{ENTRY_FILE}: {facts['frames']} frames, expected {count}"
    try:
        frames = read_frames(folder, count)
    except FormatError as error:
        if not wrong:
            yield f"{ENTRY_FILE}: {error}"
        return
    if frames.shape[1] != facts.get("size"):
        yield f"{ENTRY_FILE}: size is {facts.get('size')!r}, but the frames have {frames.shape[1]} pixels per side"
    measured = _measure(frames, facts, entry, framing, stills)
    if not wrong and measured.to_json() != facts["measures"]:
        yield f"{ENTRY_FILE}: measures are {facts['measures']}, but those of the frames are {measured.to_json()}"
    doubts += [f"{entry.id}: {doubt}" for doubt in _doubts(frames, measured)]


def _check_facts(facts: Mapping[str, Any], entry: Entry, manifest: Manifest, settings: dict[str, Any]) -> Iterator[str]:
    """Check `entry.json` against the manifest and the plan."""
    expected = {
        "id": entry.id,
        "category": entry.category.value,
        "still": {"name": entry.still, "sha256": entry.sha256},
        "prompt": full_prompt(manifest, entry),
        "negative_prompt": full_negative_prompt(manifest, entry),
        "seed": entry.seed,
        "settings": settings,
    }
    for name, value in expected.items():
        if facts.get(name) != value:
            yield f"{name} is {facts.get(name)!r}, expected {value!r} from the manifest and the plan"
    if facts["settings_sha256"] != sha256_json(expected):
        yield f"settings_sha256 is {facts['settings_sha256']!r}, expected {sha256_json(expected)}"
    chosen = choose_frames(settings["generator"]["num_frames"], manifest.framing.frames)
    if facts.get("source_frames") != chosen:
        yield f"source_frames is {facts.get('source_frames')!r}, expected {chosen}"


def _measure(frames: Pixels, facts: Mapping[str, Any], entry: Entry, framing: Framing, stills: Path) -> Measures:
    """Measure the frames again; without the still, drift is taken from `entry.json`."""
    covered = coverage(frames[..., 3])
    path = stills / entry.still
    if path.is_file():
        with Image.open(path) as still:
            padded = np.asarray(pad_still(still, frames.shape[1], framing.fill, framing.background))
        left, top, side = facts["square"]
        drifted = drift(frames[0], padded, (left, top, side), framing.background)
    else:
        drifted = facts["measures"]["drift"]
    return Measures(covered, flicker(covered), drifted)


def _doubts(frames: Pixels, measured: Measures) -> Iterator[str]:
    first, most = measured.coverage[0], max(measured.coverage)
    if first < MIN_COVERAGE:
        yield f"the object covers {first:.1%} of the first frame, less than {MIN_COVERAGE:.0%}: it is hardly visible"
    if most > MAX_COVERAGE:
        yield f"a frame is {most:.0%} opaque, more than {MAX_COVERAGE:.0%}: was the background removed?"
    alpha = frames[..., 3]
    visible, soft = alpha > HAZE, (alpha > HAZE) & (alpha < 255 - HAZE)
    if (share := soft.sum() / max(1, visible.sum())) > MAX_SOFT:
        yield f"{share:.0%} of the visible pixels are translucent, more than {MAX_SOFT:.0%}: a hazy matte, or glass"
    if measured.flicker > MAX_FLICKER:
        yield f"the covered area flickers by {measured.flicker:.3f}, more than {MAX_FLICKER}"
    if measured.drift > MAX_DRIFT:
        yield f"the first frame differs from the still by {measured.drift:.3f}, more than {MAX_DRIFT}"


def _check_ledger(manifest: Manifest, outcomes: Mapping[str, Outcome], built: set[str]) -> Iterator[str]:
    for entry in manifest.entries:
        done = _state(outcomes, entry.id) is AssetState.DONE
        if done and entry.id not in built:
            yield f"{VIDEOS}/{entry.id}: missing, but done according to {LEDGER_FILE}"
        if entry.id in built and not done:
            yield f"{LEDGER_FILE}: does not list {entry.id}, which is built"
    for name in sorted(outcomes.keys() - {entry.id for entry in manifest.entries}):
        yield f"{LEDGER_FILE}: lists {name}, which is not in the manifest"


def _check_strays(output: Path, manifest: Manifest) -> Iterator[str]:
    """Find files that a killed run left behind, or that were added by hand."""
    known = {entry.id for entry in manifest.entries}
    videos = output / VIDEOS
    for path in sorted(videos.iterdir()) if videos.is_dir() else []:
        if path.name not in known:
            yield f"{VIDEOS}/{path.name}: not in the manifest"
    if (output / WORK).exists():
        yield f"{WORK}: left behind by an interrupted run: rerun its command"


def _state(outcomes: Mapping[str, Outcome], name: str) -> AssetState | None:
    return outcomes[name].state if name in outcomes else None


def _reason(outcome: Outcome) -> str:
    return f"{outcome.asset}: {outcome.message} [{outcome.reason}]"
