"""Every hash, index, count and sample of an output folder checked again: what is broken, and what rewrites just that.

Reads everything, writes nothing. Shards are checked in processes of their own; plan, ledger and the rest here.
"""

from __future__ import annotations

import json
import multiprocessing
import os
from collections.abc import Iterator, Mapping
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from core import ConfigError, Helix4DError
from core.locks import is_locked
from curation.jobs import WORK_FOLDER
from curation.ledger import LEDGER_FILE, Ledger
from curation.plan import SPLITS, Plan
from curation.problems import Problem
from curation.progress import Steps
from curation.summary import SUMMARY_FILE, RunFigures, summarize
from curation.verify_ledger import check_ledger, read_outcomes
from curation.verify_plan import Output, check_files, read_output
from curation.verify_shard import SIDECAR, TAR, Finding, ShardCheck, check_shard, is_whole

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


def verify(folder: Path, workers: int | None = None) -> Report:
    """Check everything in an output of `helix4d curate`.

    Args:
        folder: the output.
        workers: shards checked at the same time. None: one a core.

    Raises:
        ConfigError: if the folder is no such output, or a run is writing there.
    """
    if is_locked(folder):
        raise ConfigError(f"{folder}: a run is writing there: verify when it has ended")
    output = read_output(folder)
    problems = [*output.problems, *check_files(output), *_check_shards(output, workers or os.cpu_count() or 1)]
    whole = {name: sidecar for name, sidecar in output.sidecars.items() if is_whole(sidecar)}
    outcomes, damaged_lines = read_outcomes(folder, output.remedies)
    problems += damaged_lines
    if output.plan is not None and all(problem.remedy != output.remedies.update() for problem in damaged_lines):
        problems += check_ledger(output.plan, outcomes, whole, output.remedies)
        if not problems:
            problems += _check_summary(output.plan, output)
    problems += _check_strays(output)
    assets = len(output.plan.assets()) + len(output.plan.left_out) if output.plan else len(outcomes)
    samples = sum(len(sidecar["samples"]) for sidecar in whole.values())
    return Report(tuple(problems), len(output.shards), samples, assets)


def _check_shards(output: Output, workers: int) -> Iterator[Problem]:
    checks = {
        name: ShardCheck(output.folder / f"{name}.tar", name.split("/")[0], output.settings)
        for name in output.shards
        if all((output.folder / f"{name}{suffix}").exists() for suffix in (TAR, SIDECAR))
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
    return list(check_shard(check))


def _check_summary(plan: Plan, output: Output) -> Iterator[Problem]:
    """The summary's totals against those of ledger and shards, which are known to be right."""
    path = output.folder / SUMMARY_FILE
    try:
        found = json.loads(path.read_bytes())
    except FileNotFoundError:
        yield Problem(SUMMARY_FILE, "", "missing: the last run did not come to its end", output.remedies.resume())
        return
    except ValueError as error:
        yield Problem(SUMMARY_FILE, "", f"not a summary ({error})", output.remedies.resume())
        return
    try:
        expected = summarize(plan, Ledger(output.folder / LEDGER_FILE), output.folder, RunFigures()).to_json()
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
    work = output.folder / WORK_FOLDER
    if work.exists() and output.plan and output.sidecars.keys() >= set(output.shards):
        yield Problem(WORK_FOLDER, "", "left over: every shard is committed", output.remedies.resume())
    for folder in (output.folder, *(output.folder / split for split in SPLITS)):
        for path in sorted(folder.glob(".*.tmp")):
            name = path.relative_to(output.folder).as_posix()
            yield Problem(name, "", "a temporary file that a killed run left", output.remedies.remove(name))
