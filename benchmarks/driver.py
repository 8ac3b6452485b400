"""Cost of the driver per asset: `python benchmarks/driver.py [--assets 100000] [--workers 2]`.

The code of `helix4d curate` lists, hashes and plans real files, sends every job through Ray, keeps the ledger on disk
and writes every shard. Only the job does nothing: each asset is "filtered" at once. What remains is the overhead that
the toolkit adds to an asset, in seconds by part. It should not grow with the number of assets.
"""

from __future__ import annotations

import argparse
import logging
import os
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import psutil

from helix4d.core import ReasonCode
from helix4d.curation import pipeline
from helix4d.curation.config import CurateConfig, RunConfig, SampleConfig
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.work.jobs import AssetJob, Report
from helix4d.curation.work.shard_writer import ShardWriter

_PER_FOLDER = 1000


def _do_nothing(job: AssetJob, report: Report) -> Outcome:
    return Outcome(job.asset, ReasonCode.NO_MOTION.state, ReasonCode.NO_MOTION, stage="filter", message="a benchmark")


def main() -> None:
    """Print the figures."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--assets", type=int, nargs="+", default=[10_000, 100_000])
    parser.add_argument("--workers", type=int, help="default: as many as the CPUs allow")
    arguments = parser.parse_args()
    logging.basicConfig(level=logging.WARNING)
    curate_task = pipeline.curate_task
    pipeline.curate_task = lambda *options: replace(curate_task(*options), run=_do_nothing)
    print(f"{'assets':>8} {'part':>28} {'seconds':>8} {'assets/s':>9} {'ms/asset':>9}")
    for count in arguments.assets:
        with tempfile.TemporaryDirectory(prefix="helix4d-driver-") as folder:
            _measure(Path(folder), count, arguments.workers)


def _measure(folder: Path, count: int, workers: int | None) -> None:
    source, output = folder / "source", folder / "output"
    for number in range(count):
        path = source / f"{number // _PER_FOLDER:04d}" / f"{number:07d}.glb"
        if number % _PER_FOLDER == 0:
            path.parent.mkdir(parents=True)
        path.write_bytes(b"glTF%d" % number)
    run = RunConfig(workers=workers)
    os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
    config = CurateConfig(str(source), output, SampleConfig(), run)
    spent: dict[str, float] = {}
    cpu = time.process_time()
    with _timed(spent, "whole run"), _parts(spent):
        pipeline.curate(config)
    spent["CPU time of the driver"] = time.process_time() - cpu
    with _timed(spent, "second run, nothing to do"):
        summary = pipeline.curate(config)
    if summary.assets != count or len(Ledger(output / "ledger.jsonl").outcomes) != count:
        raise SystemExit(f"expected {count} assets, the summary counts {summary.assets}")
    for name, seconds in spent.items():
        print(f"{count:8} {name:>28} {seconds:8.1f} {count / seconds:9.0f} {1000 * seconds / count:9.3f}", flush=True)
    print(f"{count:8} {'memory of the driver':>28} {psutil.Process().memory_info().rss / 1e6:8.0f} MB", flush=True)


@contextmanager
def _parts(spent: dict[str, float]) -> Iterator[None]:
    """Time the driver's own steps within a run."""
    owners: list[tuple[Any, str, str]] = [
        (pipeline, "plan_run", "list, hash and plan"),
        (pipeline, "_fill_shards", "work"),
        (Ledger, "append", "of which the ledger"),
        (ShardWriter, "finish", "of which shards at the end"),
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
