"""Checks that end in every possible way, for the tests of the kit; none needs torch."""

from __future__ import annotations

import ctypes
import subprocess
import time
from collections.abc import Iterator

from benchmarks.kit.context import Context, agreed
from benchmarks.kit.results import Row, Verdict


def good(context: Context) -> Iterator[Row]:
    yield Row("copy", values={"copy_bytes_per_s": 4e12, "matmul_flops": 8e14})


def sees_ceilings(context: Context) -> Iterator[Row]:
    yield Row("a share", share=context.of_matmul(4e14), values={"copy": context.ceilings.copy or 0.0})


def missed(context: Context) -> Iterator[Row]:
    yield Row("slow", Verdict.MISSED, "fast", share=float("nan"))


def wrong(context: Context) -> Iterator[Row]:
    yield agreed("right", 0.0, 1e-3)
    yield agreed("not a number", float("nan"), 1e-3)


def raises(context: Context) -> Iterator[Row]:
    yield Row("before the crash")
    raise RuntimeError("out of luck")


def dies(context: Context) -> Iterator[Row]:
    yield Row("before the segmentation fault")
    ctypes.string_at(0)


def hangs(context: Context) -> Iterator[Row]:
    child = subprocess.Popen(["sleep", "600"])
    yield Row("before the hang", values={"pid": child.pid})
    time.sleep(600)
