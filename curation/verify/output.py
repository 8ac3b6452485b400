"""Checks every hash, index, count and sample of an output, in a folder or at a URL.

Everything is read once (each `clip.json` twice), and nothing is written. Shards are checked in separate processes, all
other files in this one.
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helix4d.core import ConfigError, FormatError, Helix4DError
from helix4d.core.documents import parse_json
from helix4d.core.locks import is_locked
from helix4d.core.pool import map_processes
from helix4d.curation.places.folder import Place, is_far
from helix4d.curation.plan.plan import Plan
from helix4d.curation.report.summary import RunFigures, add_up
from helix4d.curation.shards.layout import LEDGER_PIECES, SPLITS, SUMMARY_FILE, WORK_FOLDER
from helix4d.curation.shards.ledger import Outcome, ledger_bytes
from helix4d.curation.shards.problems import Problem
from helix4d.curation.verify.index import check_index
from helix4d.curation.verify.ledger import check_ledger, parse_ledger
from helix4d.curation.verify.plan import Output, check_files, read_output
from helix4d.curation.verify.shard import SIDECAR, TAR, Finding, ShardCheck, check_shard
from helix4d.curation.work.progress import Steps

_WRITTEN = (".", *SPLITS, LEDGER_PIECES)
_SUMMED = ("assets", "counts", "samples", "shards", "bytes")


@dataclass(frozen=True)
class Report:
    """Result of a verification.

    Attributes:
        problems: problems in the order plan, shards, ledger, other files.
        shards: number of planned shards; without a plan, of existing ones.
        samples: number of samples in the readable indexes.
        assets: number of assets in the plan, left-out ones included.
    """

    problems: tuple[Problem, ...]
    shards: int
    samples: int
    assets: int


def verify(place: Place, workers: int | None = None) -> Report:
    """Check everything in an output of `helix4d curate`.

    Args:
        place: folder or URL of the output.
        workers: number of shards to check at the same time. None: one per CPU.

    Raises:
        ConfigError: if there is no such output, or a run is writing to it (not detected at a URL).
        StoreError: if a URL cannot be read.
    """
    if not is_far(place) and is_locked(Path(place)):
        raise ConfigError(f"{place}: a run is writing to it: verify after it has finished")
    output = read_output(place)
    problems = [*output.problems, *check_files(output), *_check_shards(output, workers or os.cpu_count() or 1)]
    whole = {name: sidecar for name, sidecar in output.sidecars.items() if name in output.whole}
    outcomes, damaged_lines = parse_ledger(ledger_bytes(output.folder), output.remedies)
    problems += damaged_lines
    if output.plan is not None and all(problem.remedy != output.remedies.update() for problem in damaged_lines):
        problems += check_ledger(output.plan, outcomes, whole, output.remedies)
        if not problems:
            problems += _check_summary(output.plan, outcomes, output)
        if not problems:
            problems += check_index(output)
    problems += _check_strays(output)
    assets = len(output.plan.assets()) + len(output.plan.left_out) if output.plan else len(outcomes)
    samples = sum(len(sidecar.keys) for sidecar in whole.values())
    return Report(tuple(problems), len(output.shards), samples, assets)


def _check_shards(output: Output, workers: int) -> Iterator[Problem]:
    checks = {
        name: ShardCheck(output.place, name, output.settings)
        for name in output.shards
        if all(f"{name}{suffix}" in output.names for suffix in (TAR, SIDECAR))
    }
    with Steps("shards", len(checks)) as steps:
        results = map_processes(_check_one, list(checks.values()), workers)
        for name, findings in zip(checks, results, strict=True):
            for file, key, what, newer in findings:
                remedy = output.remedies.update() if newer else output.remedies.rebuild(name)
                yield Problem(f"{name}{file}", key, what, remedy)
            steps.advance()


def _check_one(check: ShardCheck) -> list[Finding]:
    try:
        return list(check_shard(check))
    except FileNotFoundError as error:
        raise FormatError(
            f"{check.output}: {check.name}.tar disappeared while it was read: wait for the run that writes to it, "
            "then verify again"
        ) from error


def _check_summary(plan: Plan, outcomes: Mapping[str, Outcome], output: Output) -> Iterator[Problem]:
    """Check the totals of the summary against ledger and shards, which have been found to be right."""
    try:
        summary = parse_json(output.folder.read(SUMMARY_FILE), SUMMARY_FILE, "summary")
    except FileNotFoundError:
        yield Problem(SUMMARY_FILE, "", "missing: the last run did not finish", output.remedies.resume())
        return
    except FormatError as error:
        yield Problem(SUMMARY_FILE, "", str(error).removeprefix(f"{SUMMARY_FILE}: "), output.remedies.resume())
        return
    try:
        committed = [output.sidecars[shard.name] for shard in plan.shards if shard.name in output.sidecars]
        expected = add_up(plan, outcomes, committed, RunFigures(), str(output.place)).to_json()
    except Helix4DError as error:
        yield Problem(SUMMARY_FILE, "", str(error), output.remedies.resume())
        return
    for name in _SUMMED:
        value = summary.get(name) if isinstance(summary, Mapping) else None
        if value != expected[name]:
            what = f"{name} is {value!r}, expected {expected[name]!r} from ledger and shards"
            yield Problem(SUMMARY_FILE, "", what, output.remedies.resume())


def _check_strays(output: Output) -> Iterator[Problem]:
    """Find what killed runs left behind: temporary files, and parts of shards that are committed."""
    has_parts = any(name.startswith(f"{WORK_FOLDER}/") for name in output.names)
    if has_parts and output.plan and output.sidecars.keys() >= set(output.shards):
        yield Problem(WORK_FOLDER, "", "no longer needed: every shard is committed", output.remedies.resume())
    for name in sorted(output.names):
        path = PurePosixPath(name)
        if str(path.parent) in _WRITTEN and path.name.startswith(".") and path.suffix == ".tmp":
            yield Problem(name, "", "temporary file of a killed run", output.remedies.remove(name))
