"""Assets per hour of the pipeline and of the same stages in a plain loop: `python benchmarks/curation.py SOURCE`.

The loop is one process that bakes, voxelizes, renders and packs one asset after another and keeps Blender open. The
pipeline is `helix4d curate` with two workers. Both limit each stage to one thread, both run once untimed to fill
numba's and the disk's caches, and both must end every asset in the same state. The ratio of their rates is the speedup
from two cores, less the cost of the driver. Run it on an idle machine with at least two cores.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)

from benchmarks.results import REPOSITORY, Column, Report

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
TARGET = 1.7


def main() -> None:
    """Print both rates and their ratio."""
    report = Report("curation", __doc__, quick="two assets at 64, with one view of 32 pixels and 4 frames")
    parser = report.parser
    parser.add_argument("source", type=Path, help="folder of assets")
    parser.add_argument("--limit", type=int, help="use only the first N assets by name")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--resolution", type=int, default=256)
    parser.add_argument("--views", type=int, default=4)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--loop", type=Path, help=argparse.SUPPRESS)  # output of the loop, run in this process
    arguments = report.parse()
    if arguments.quick:
        vars(arguments).update(limit=2, resolution=64, views=1, image_size=32, frames=4)
    if arguments.loop:
        _loop(arguments)
        return
    os.environ.update(ONE_THREAD, PYTHONPATH=str(REPOSITORY))
    assets = _assets(arguments)
    with tempfile.TemporaryDirectory(prefix="helix4d-curation-") as name:
        folder = Path(name)
        source = folder / "source"
        for path in assets:
            target = source / path.relative_to(arguments.source.resolve())
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(path, target)
        _warm_up(arguments, source, folder)
        loop = _run_loop(arguments, source, folder / "loop")
        print(f"plain loop: {loop['wall_s']:.0f} s", flush=True)
        pipeline = _run_pipeline(arguments, source, folder / "pipeline")
        if loop["ends"] != pipeline["ends"]:
            raise SystemExit(f"the outcomes differ: {loop['ends']} in the loop, {pipeline['ends']} in the pipeline")
        _add_rates(report, len(assets), loop, pipeline)
    report.save()


def _add_rates(report: Report, assets: int, loop: dict, pipeline: dict) -> None:
    columns = (
        Column("plain loop", ".1f"),
        Column(f"pipeline, {report.options.workers} workers", ".1f"),
        Column("ratio", ".2f"),
    )
    table = report.table("rates", Column("measure"), *columns)

    def add(name: str, ours: float, theirs: float, ratio: bool = True) -> None:
        table.add(name, ours, theirs, ours / theirs if ratio and theirs else None)

    add("whole command, s", loop["wall_s"], pipeline["wall_s"])
    add("work, from the first asset to the last shard, s", loop["work_s"], pipeline["work_s"])
    add("assets per hour, work alone", *(3600 * assets / run["work_s"] for run in (loop, pipeline)), ratio=False)
    for stage in loop["seconds"]:
        add(f"{stage}, s in all workers", loop["seconds"][stage], pipeline["seconds"].get(stage, 0.0))
    report.value("busy", pipeline["utilization"], ".0%")
    report.value("work_ratio", loop["work_s"] / pipeline["work_s"], ".2f")
    print(f"aim of the work alone on two idle cores: {TARGET}")


def _assets(arguments: argparse.Namespace) -> list[Path]:
    from helix4d.curation.sources.source import list_folder

    return [asset.path for asset in list_folder(arguments.source.resolve(), arguments.limit)]


def _sample_flags(arguments: argparse.Namespace) -> list[str]:
    names = ("resolution", "views", "image_size", "frames")
    return [part for name in names for part in (f"--{name.replace('_', '-')}", str(getattr(arguments, name)))]


def _warm_up(arguments: argparse.Namespace, source: Path, folder: Path) -> None:
    """Process one small asset, so that neither side pays for compilation and a cold disk."""
    small = folder / "small"
    small.mkdir()
    first = min(source.rglob("*.glb"), key=lambda path: path.stat().st_size)
    shutil.copyfile(first, small / first.name)
    _run_loop(arguments, small, folder / "warm")


def _run_loop(arguments: argparse.Namespace, source: Path, output: Path) -> dict:
    start = time.perf_counter()
    command = [sys.executable, os.path.abspath(__file__), str(source), *_sample_flags(arguments)]
    command += ["--loop", str(output)]
    printed = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return {**json.loads(printed.splitlines()[-1]), "wall_s": time.perf_counter() - start}


def _loop(arguments: argparse.Namespace) -> None:
    """Run `process_asset` on one asset after another, in this process."""
    from helix4d.assets import content_hash
    from helix4d.core import AssetError
    from helix4d.curation.config import SampleConfig
    from helix4d.curation.work.jobs import AssetJob
    from helix4d.curation.work.stages import Clock, process_asset

    config = SampleConfig(
        resolution=arguments.resolution,
        views=arguments.views,
        image_size=arguments.image_size,
        frames=arguments.frames,
    )
    start = time.perf_counter()
    ends: Counter[str] = Counter()
    seconds: Counter[str] = Counter()
    for path in _assets(arguments):
        sha256 = content_hash(path)
        clock = Clock(lambda event: None)
        job = AssetJob(path.name, path, sha256, arguments.loop / f"{sha256[:16]}.part", config)
        try:
            outcome = process_asset(job, clock)
            ends[outcome.reason or outcome.state] += 1
        except AssetError as error:
            ends[error.code] += 1
        seconds.update(clock.timings_s())
    print(json.dumps({"ends": dict(sorted(ends.items())), "seconds": seconds, "work_s": time.perf_counter() - start}))


def _run_pipeline(arguments: argparse.Namespace, source: Path, output: Path) -> dict:
    start = time.perf_counter()
    command = [sys.executable, "-m", "helix4d", "curate", "--source", str(source), "--output", str(output)]
    command += [*_sample_flags(arguments), "--workers", str(arguments.workers), "--cpus-per-worker", "1"]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    wall_s = time.perf_counter() - start
    summary = json.loads((output / "summary.json").read_text())
    ends: Counter[str] = Counter()
    for name, number in summary["counts"].items():
        ends[name.split(": ")[-1]] += number
    return {
        "ends": dict(sorted(ends.items())),
        "seconds": summary["timings_s"],
        "work_s": 3600 * summary["ended"] / summary["assets_per_hour"],
        "utilization": summary["utilization"],
        "wall_s": wall_s,
    }


if __name__ == "__main__":
    main()
