"""Cost of the driver per asset: `python benchmarks/driver.py [--assets 3000 12000] [--workers 2]`.

The code of `helix4d curate` lists, hashes and plans real files, sends every job through Ray, keeps the ledger on disk
and writes every shard. Only the job does nothing: each asset is "filtered" at once. What remains is the overhead that
the toolkit adds to an asset, by step, and the memory of the driver's process: before the run (the imported packages),
after it, and at its peak. Neither time nor memory per asset should grow with the number of assets. Each run has a
process of its own.
"""

from __future__ import annotations

import argparse
import json
import logging
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

import psutil

from benchmarks.results import REPOSITORY, Column, Report, Spread
from helix4d.core import ReasonCode
from helix4d.curation import pipeline
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.work import jobs, shard_writer

_PER_FOLDER = 1000
_SECONDS = (
    "list, hash and plan",
    "work",
    "of which the ledger",
    "of which shards at the end",
    "add up",
    "whole run",
    "CPU time of the driver",
    "second run, nothing to do",
)


def _do_nothing(job: jobs.AssetJob, report: jobs.Report) -> Outcome:
    return Outcome(job.asset, ReasonCode.NO_MOTION.state, ReasonCode.NO_MOTION, stage="filter", message="a benchmark")


def main() -> None:
    """Print the figures."""
    report = Report("driver", __doc__, quick="200 assets, once")
    report.parser.add_argument("--assets", type=int, nargs="+", default=[3_000, 12_000])
    report.parser.add_argument("--workers", type=int, help="number of workers (default: as many as the CPUs allow)")
    report.parser.add_argument("--rounds", type=int, default=2, help="runs per number of assets")
    report.parser.add_argument("--alone", action="store_true", help=argparse.SUPPRESS)  # one run, in this process
    options = report.parse()
    if options.alone:
        with tempfile.TemporaryDirectory(prefix="helix4d-driver-") as folder:
            print(json.dumps(_measure(Path(folder), options.assets[0], options.workers)))
        return
    counts, rounds = ([200], 1) if options.quick else (options.assets, options.rounds)
    found: dict[int, list[dict[str, float]]] = {count: [] for count in counts}
    for number in range(rounds):
        for count in counts:
            found[count].append(_run_alone(count, options.workers))
            print(f"run {number + 1} of {rounds}, {count:,} assets: {found[count][-1]['whole run']:.0f} s", flush=True)
    columns = [Column(f"{count:,} assets", ".2f") for count in counts]
    table = report.table("time", Column("ms per asset"), *columns)
    for part in _SECONDS:
        table.add(part, *(Spread.of([run[part] for run in runs], 1e3 / count) for count, runs in found.items()))
    columns = [Column(f"{count:,} assets", ".0f") for count in counts]
    table = report.table("memory", Column("memory of the driver, MB"), *columns)
    for moment in ("before the run", "after the run", "peak"):
        table.add(moment, *(Spread.of([run[moment] for run in runs], 1e-6) for runs in found.values()))
    few, many = min(counts), max(counts)
    report.value("cpu_ms", Spread.of([run["CPU time of the driver"] for run in found[many]], 1e3 / many), ".1f")
    report.value("start_mb", Spread.of([run["before the run"] for run in found[many]], 1e-6).median, ".0f")
    if many > few:
        slopes = [(b["peak"] - a["peak"]) / (many - few) for a, b in zip(found[few], found[many], strict=True)]
        report.value("kb_per_asset", Spread.of(slopes, 1e-3), ".1f")
    report.save()


def _run_alone(count: int, workers: int | None) -> dict[str, float]:
    """Return the figures of one run in a separate process."""
    command = [sys.executable, os.path.abspath(__file__), "--alone", "--assets", str(count)]
    command += [] if workers is None else ["--workers", str(workers)]
    environment = {**os.environ, "RAY_USAGE_STATS_ENABLED": "0", "PYTHONPATH": str(REPOSITORY)}
    printed = subprocess.run(command, check=True, env=environment, stdout=subprocess.PIPE, text=True).stdout
    found: dict[str, float] = json.loads(printed.splitlines()[-1])
    return found


def _measure(folder: Path, count: int, workers: int | None) -> dict[str, float]:
    """Return the seconds of each step, and bytes of memory."""
    logging.basicConfig(level=logging.WARNING)
    curate_task = pipeline.curate_task
    pipeline.curate_task = lambda *options: replace(curate_task(*options), run=_do_nothing)
    source, output = folder / "source", folder / "output"
    for number in range(count):
        path = source / f"{number // _PER_FOLDER:04d}" / f"{number:07d}.glb"
        if number % _PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"glTF%d" % number)
    config = CurateConfig(str(source), output, SampleConfig(), RunConfig(workers=workers))
    found: dict[str, float] = {"before the run": psutil.Process().memory_info().rss}
    cpu = time.process_time()
    with _timed(found, "whole run"), _parts(found):
        pipeline.curate(config)
    found["CPU time of the driver"] = time.process_time() - cpu
    found["after the run"] = psutil.Process().memory_info().rss
    found["peak"] = 1024.0 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with _timed(found, "second run, nothing to do"):
        summary = pipeline.curate(config)
    if summary.assets != count or len(Ledger(output / "ledger.jsonl").outcomes) != count:
        raise SystemExit(f"expected {count} assets, the summary counts {summary.assets}")
    return found


@contextmanager
def _parts(spent: dict[str, float]) -> Iterator[None]:
    """Time the driver's own steps within a run."""
    owners: list[tuple[Any, str, str]] = [
        (pipeline, "plan_run", "list, hash and plan"),
        (pipeline, "_fill_shards", "work"),
        (Ledger, "append", "of which the ledger"),
        (shard_writer.ShardWriter, "finish", "of which shards at the end"),
        (pipeline, "summarize", "add up"),
    ]
    originals = [(owner, name, getattr(owner, name)) for owner, name, _ in owners]
    for owner, name, label in owners:
        setattr(owner, name, _wrapped(getattr(owner, name), spent, label))
    try:
        yield
    finally:
        for owner, name, original in originals:
            setattr(owner, name, original)


def _wrapped(function: Any, spent: dict[str, float], label: str) -> Any:
    def timed(*arguments: Any, **options: Any) -> Any:
        with _timed(spent, label):
            return function(*arguments, **options)

    return timed


@contextmanager
def _timed(spent: dict[str, float], label: str) -> Iterator[None]:
    start = time.perf_counter()
    try:
        yield
    finally:
        spent[label] = spent.get(label, 0.0) + time.perf_counter() - start


if __name__ == "__main__":
    main()
