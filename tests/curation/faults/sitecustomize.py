"""Faults for the real worker. Python imports this file in every process that has its folder on the path.

`HELIX4D_TEST_FAULTS` names a JSON file: {asset: fault}. A fault occurs in the middle of the asset's rendering, or of
its packing if it is not rendered. A fault whose name ends in `-once` occurs only in the first attempt: a marker file
beside the JSON file records it.
"""

from __future__ import annotations

import ctypes
import json
import os
import signal
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any


def _segfault() -> None:
    ctypes.string_at(0)


def _hang() -> None:
    while True:
        time.sleep(1)


def _eat() -> None:
    hoard = []
    while True:
        hoard.append(os.urandom(1 << 20) * 50)
        time.sleep(0.01)


def _kill() -> None:
    os.kill(os.getpid(), signal.SIGKILL)


def _kill_ray_worker() -> None:
    os.kill(os.getppid(), signal.SIGKILL)
    time.sleep(60)


def _lack_a_driver() -> None:
    from helix4d.core import SetupError

    raise SetupError("no driver")


DEEDS: dict[str, Callable[[], None]] = {
    "segfault": _segfault,
    "hang": _hang,
    "eat": _eat,
    "kill": _kill,
    "kill-ray-worker": _kill_ray_worker,
    "lack-a-driver": _lack_a_driver,
}


def marker(folder: Path, asset: str) -> Path:
    """Return the file that records that an asset's fault has occurred."""
    return folder / f"{asset.replace('/', '_')}.happened"


def _install(table: Path) -> None:
    from helix4d.curation.work import stages

    plain_process, plain_load, plain_pack = stages.process_asset, stages.load_engine, stages.write_part
    current = ""

    def process_asset(job: Any, clock: Any) -> Any:
        nonlocal current
        current = job.asset
        return plain_process(job, clock)

    def load_engine(*arguments: Any) -> Callable[..., Iterator[Any]]:
        render_views = plain_load(*arguments)

        def render_and_do(*given: Any, **options: Any) -> Iterator[Any]:
            for number, image in enumerate(render_views(*given, **options)):
                if number == 1:
                    _do(table, current)
                yield image

        return render_and_do

    def write_part(path: Path, samples: Iterable[Any]) -> int:
        def samples_and_do() -> Iterator[Any]:
            for sample in samples:
                _do(table, current)
                yield sample

        return plain_pack(path, samples_and_do())

    stages.process_asset, stages.load_engine, stages.write_part = process_asset, load_engine, write_part


def _do(table: Path, asset: str) -> None:
    fault = json.loads(table.read_text()).get(asset)
    if fault is None:
        return
    name, once, _ = fault.partition("-once")
    if once:
        try:
            marker(table.parent, asset).touch(exist_ok=False)
        except FileExistsError:
            return
    print(f"now: {name}", flush=True)
    DEEDS[name]()


if "helix4d.curation.work.worker" in sys.orig_argv and "HELIX4D_TEST_FAULTS" in os.environ:
    _install(Path(os.environ["HELIX4D_TEST_FAULTS"]))
