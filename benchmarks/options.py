"""What the options of `helix4d curate` add per asset: `python benchmarks/options.py ASSET...`.

All runs are in this process and use one thread. Every round makes the samples of an asset with the plain settings, then
with one option after another, so that changes in load affect all of them. The figures are CPU times, medians over the
rounds: the seconds that an option adds, and the ratio of its run to the plain run.
"""

from __future__ import annotations

import argparse
import os
import statistics
import tempfile
import time
from pathlib import Path
from typing import Any

ONE_THREAD = {"OMP_NUM_THREADS": "1", "NUMBA_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
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
    """Print a table for each asset."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("assets", nargs="+", type=Path)
    parser.add_argument("--resolution", type=int, default=512)
    parser.add_argument("--views", type=int, default=2)
    parser.add_argument("--image-size", type=int, default=256)
    parser.add_argument("--frames", type=int, default=16)
    parser.add_argument("--rounds", type=int, default=2)
    arguments = parser.parse_args()
    os.environ.update(ONE_THREAD)  # before any library counts the cores
    for asset in arguments.assets:
        _print_table(asset, arguments)


def _print_table(asset: Path, arguments: argparse.Namespace) -> None:
    times: dict[str, list[float]] = {name: [] for name in ("plain", *OPTIONS)}
    _measure(asset, arguments, {})  # compiles the kernels and starts Blender
    for _ in range(arguments.rounds):
        for name in times:
            times[name].append(_measure(asset, arguments, OPTIONS.get(name, {})))
    seconds = {name: statistics.median(values) for name, values in times.items()}
    plain = seconds.pop("plain")
    spread = max(times["plain"]) / min(times["plain"])
    print(f"{asset.name}: plain run {plain:.2f} s of CPU time, longest to shortest {spread:.2f}", flush=True)
    for name, value in seconds.items():
        print(f"| `{name}` | {value - plain:+.2f} s | {value / plain:.2f} |", flush=True)


def _measure(asset: Path, arguments: argparse.Namespace, changes: dict[str, Any]) -> float:
    """Return the CPU seconds of one run."""
    from helix4d.assets import content_hash
    from helix4d.core import AssetState
    from helix4d.curation.config import SampleConfig
    from helix4d.curation.filters.thresholds import FilterConfig
    from helix4d.curation.work.jobs import AssetJob
    from helix4d.curation.work.stages import Clock, process_asset

    names = ("resolution", "views", "image_size", "frames")
    settings = {name: getattr(arguments, name) for name in names} | changes
    if changes.get("resolution") == HALF_TOO:
        settings["resolution"] = f"{arguments.resolution},{arguments.resolution // 2}"
    if "max_tokens" in changes:
        settings["filters"] = FilterConfig(max_tokens=settings.pop("max_tokens"))
    with tempfile.TemporaryDirectory(prefix="helix4d-options-") as folder:
        part = Path(folder) / "part"
        job = AssetJob(asset.name, asset, content_hash(asset), part, SampleConfig(**settings), device="cpu")
        start = time.process_time()
        outcome = process_asset(job, Clock(lambda event: None))
        seconds = time.process_time() - start
    if outcome.state is not AssetState.DONE:
        raise SystemExit(f"{asset}: {outcome.state} ({outcome.message}): choose an asset that becomes a sample")
    return seconds


if __name__ == "__main__":
    main()
