"""Every hash, index, count and sample of an output checked again: what is broken, and what rewrites just that.

Reads everything once, near or far, and writes nothing. Shards are checked in processes of their own; plan, ledger and
the rest here.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

from helix4d.core import ConfigError, FormatError, Helix4DError
from helix4d.core.locks import is_locked
from helix4d.curation.places.folder import Place, is_far
from helix4d.curation.plan.plan import Plan
from helix4d.curation.report.summary import RunFigures, add_up
from helix4d.curation.shards.layout import LEDGER_PIECES, SPLITS, SUMMARY_FILE, WORK_FOLDER
from helix4d.curation.shards.ledger import Outcome, ledger_bytes
from helix4d.curation.shards.problems import Problem
from helix4d.curation.verify.ledger import check_ledger, parse_ledger
from helix4d.curation.verify.plan import Output, check_files, read_output
from helix4d.curation.verify.shard import SIDECAR, TAR, Finding, ShardCheck, check_shard
from helix4d.curation.work.progress import Steps

_WRITTEN = (".", *SPLITS, LEDGER_PIECES)
_SUMMED = ("assets", "counts", "samples", "shards", "bytes")


@dataclass(frozen=True)
class Report:
    """What was looked at, and what is wrong with it.

    Attributes:
        problems: in the order plan, shards, ledger, other files.
        shards: planned; without a plan, there.
        samples: in the indexes that could be read.
        assets: planned, those left out included.
    """

    problems: tuple[Problem, ...]
    shards: int
    samples: int
    assets: int


def verify(place: Place, workers: int | None = None) -> Report:
    """Check everything in an output of `helix4d curate`.

    Args:
        place: the output, a folder or a URL.
        workers: shards checked at the same time. None: one a core.

    Raises:
        ConfigError: if there is no such output, or a run is writing there (nothing tells of one at a URL).
        StoreError: if a far one cannot be had.
    """
    if not is_far(place) and is_locked(Path(place)):
        raise ConfigError(f"{place}: a run is writing there: verify when it has ended")
    output = read_output(place)
    problems = [*output.problems, *check_files(output), *_check_shards(output, workers or os.cpu_count() or 1)]
    whole = {name: sidecar for name, sidecar in output.sidecars.items() if name in output.whole}
    outcomes, damaged_lines = parse_ledger(ledger_bytes(output.folder), output.remedies)
    problems += damaged_lines
    if output.plan is not None and all(problem.remedy != output.remedies.update() for problem in damaged_lines):
        problems += check_ledger(output.plan, outcomes, whole, output.remedies)
        if not problems:
            problems += _check_summary(output.plan, outcomes, output)
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
        for name, findings in zip(checks, _run(list(checks.values()), workers), strict=True):
            for file, key, what, newer in findings:
                remedy = output.remedies.update() if newer else output.remedies.rebuild(name)
                yield Problem(f"{name}{file}", key, what, remedy)
            steps.advance()


def _run(checks: list[ShardCheck], workers: int) -> Iterator[list[Finding]]:
    workers = min(workers, len(checks))
    if workers < 2:
        yield from map(_check_one, checks)
        return
    # A forked child would inherit the state of numba's threads without the threads.
    with ProcessPoolExecutor(workers, multiprocessing.get_context("spawn")) as pool:
        yield from pool.map(_check_one, checks)


def _check_one(check: ShardCheck) -> list[Finding]:
    try:
        return list(check_shard(check))
    except FileNotFoundError as error:
        raise FormatError(f"{check.output}: {check.name}.tar went away while it was read: is a run writing?") from error


def _check_summary(plan: Plan, outcomes: Mapping[str, Outcome], output: Output) -> Iterator[Problem]:
    """The summary's totals against those of ledger and shards, which are known to be right."""
    try:
        found = json.loads(output.folder.read(SUMMARY_FILE))
    except FileNotFoundError:
        yield Problem(SUMMARY_FILE, "", "missing: the last run did not come to its end", output.remedies.resume())
        return
    except ValueError as error:
        yield Problem(SUMMARY_FILE, "", f"not a summary ({error})", output.remedies.resume())
        return
    try:
        committed = [output.sidecars[shard.name] for shard in plan.shards if shard.name in output.sidecars]
        expected = add_up(plan, outcomes, committed, RunFigures(), str(output.place)).to_json()
    except Helix4DError as error:
        yield Problem(SUMMARY_FILE, "", str(error), output.remedies.resume())
        return
    for name in _SUMMED:
        value = found.get(name) if isinstance(found, Mapping) else None
        if value != expected[name]:
            what = f"{name} is {value!r}, ledger and shards give {expected[name]!r}"
            yield Problem(SUMMARY_FILE, "", what, output.remedies.resume())


def _check_strays(output: Output) -> Iterator[Problem]:
    """What a killed run leaves: temporary files, and finished parts of an output that no longer needs them."""
    left = any(name.startswith(f"{WORK_FOLDER}/") for name in output.names)
    if left and output.plan and output.sidecars.keys() >= set(output.shards):
        yield Problem(WORK_FOLDER, "", "left over: every shard is committed", output.remedies.resume())
    for name in sorted(output.names):
        path = PurePosixPath(name)
        if str(path.parent) in _WRITTEN and path.name.startswith(".") and path.suffix == ".tmp":
            yield Problem(name, "", "a temporary file that a killed run left", output.remedies.remove(name))
