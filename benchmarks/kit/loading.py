"""The training loader on all cores: clips per second, compared with the demand of one GPU."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

from benchmarks.kit.context import Context
from benchmarks.kit.results import Row
from benchmarks.loader import Sizes, demand, write_world
from benchmarks.loader import measure as clips_per_second

FULL = Sizes(tokens=8192, frames=16, image_size=512, clips=2, steps=12)
SMALL = Sizes(tokens=32, frames=2, image_size=16, clips=2, steps=2)
MFU = 0.45
LEAST = 2.0
"""Aim: multiple of the demand of one GPU, so that steps never wait for data."""


def measure(context: Context) -> Iterator[Row]:
    """Write synthetic shards to the local disk and read them with one thread per core."""
    sizes, workers = context.pick(FULL, SMALL), context.pick(os.cpu_count() or 1, 2)
    needed = demand(FULL, MFU)
    with tempfile.TemporaryDirectory(prefix="helix4d-kit-") as folder:
        write_world(Path(folder), sizes)
        rate, _ = clips_per_second(Path(folder), sizes, workers)
    yield Row(
        f"{workers} threads: {rate:.2f} clips/s of {sizes.frames} x {sizes.tokens} tokens and images of "
        f"{sizes.image_size}², {rate / needed:.0f} times what a step at an MFU of {MFU:.0%} needs",
        context.judge(rate >= LEAST * needed),
        f"at least {LEAST:.0f} times",
        values={"clips_per_s": rate, "needed_per_s": needed},
    )
