"""Cost of the options of `helix4d curate` per asset: `python benchmarks/options.py ASSET...`.

All runs are in this process and use one thread. Every round makes the samples of an asset without options, then with
one option after another, so that changes in load affect all of them. The figures are CPU times, medians over the
rounds: the seconds that an option adds, and the ratio of its run to the run without options.
"""

from __future__ import annotations

import os
import sys
import tempfile
from argparse import Namespace
from functools import partial
from pathlib import Path
from typing import Any

if __name__ == "__main__":
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    # Must run before any library counts the cores.
    os.environ |= dict.fromkeys(
        ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS", "OPENBLAS_NUM_THREADS", "MKL_NUM_THREADS"), "1"
    )

from benchmarks.results import Column, Report, Spread, alternate
from helix4d.assets import content_hash
from helix4d.core import AssetState
from helix4d.curation.config import SampleConfig
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.stages import Clock, process_asset

PLAIN = "plain run"
HALF_TOO = "the resolution and half of it"
OPTIONS: dict[str, dict[str, Any]] = {
    "--cameras even": {"cameras": "even"},
    "--lights even": {"lights": "even"},
    "--fixed-views front": {"fixed_views": "front"},
    "--tracks 8192": {"tracks": 8192},
    "--resolution R,R/2": {"resolution": HALF_TOO},
    "--sampling window": {"sampling": "window"},
    "--sampling window --windows 3": {"sampling": "window", "windows": 3},
    "--static also": {"static": "also"},
    "--static only": {"static": "only"},
    "--view-transform filmic": {"view_transform": "filmic"},
    "--max-tokens None": {"max_tokens": None},
}


def main() -> None:
    """Print a table of all assets."""
    report = Report("options", __doc__, quick="64³, one view at 64², 4 frames, one round")
    parser = report.parser
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = report.parse()
    if arguments.quick:
        vars(arguments).update(resolution=64, views=1, image_size=64, frames=4, rounds=1)
    numbers = (Column("CPU s", ".2f"), Column("of the plain run", ".2f"))
    report.table("cost", Column("asset"), Column("option"), *numbers)
    for asset in arguments.assets:
        _measure(report, asset, arguments)
    report.save()


def _measure(report: Report, asset: Path, arguments: Namespace) -> None:
    runs = {name: partial(_run, asset, arguments, changes) for name, changes in {PLAIN: {}, **OPTIONS}.items()}
    runs[PLAIN]()  # compiles the kernels and starts Blender
    times = alternate(runs, arguments.rounds)
    for name, seconds in times.items():
        ratio = Spread.of_ratios(seconds, times[PLAIN])
        report.tables["cost"].add(asset.stem, name, Spread.of(seconds), ratio)


def _run(asset: Path, arguments: Namespace, changes: dict[str, Any]) -> None:
    """Make the samples of an asset."""
    names = ("resolution", "views", "image_size", "frames")
    settings = {name: getattr(arguments, name) for name in names} | changes
    if changes.get("resolution") == HALF_TOO:
        settings["resolution"] = f"{arguments.resolution},{arguments.resolution // 2}"
    if "max_tokens" in changes:
        settings["filters"] = FilterConfig(max_tokens=settings.pop("max_tokens"))
    with tempfile.TemporaryDirectory(prefix="helix4d-options-") as folder:
        part = Path(folder) / "part"
        job = AssetJob(asset.name, asset, content_hash(asset), part, SampleConfig(**settings), device="cpu")
        outcome = process_asset(job, Clock(lambda event: None))
    if outcome.state is not AssetState.DONE:
        raise SystemExit(f"{asset}: {outcome.state} ({outcome.message}): choose an asset that becomes a sample")


if __name__ == "__main__":
    main()
