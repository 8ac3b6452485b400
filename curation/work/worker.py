"""The child process of `Sandbox`, which processes assets sequentially."""

from __future__ import annotations

import ctypes
import faulthandler
import json
import os
import signal
import sys
import traceback

from helix4d.core import AssetError, ReasonCode, setup_logging
from helix4d.core.storage import AWAY, FULL, REFUSING
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.sandbox import EVENTS_FD_VARIABLE, Event
from helix4d.curation.work.stages import Clock, process_asset

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until standard input ends."""
    faulthandler.enable()
    setup_logging()
    # If the parent is killed while Blender runs in C, only the kernel can end this process.
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    with os.fdopen(int(os.environ[EVENTS_FD_VARIABLE]), "w", encoding="utf-8") as events:

        def send(event: Event) -> None:
            events.write(json.dumps(event) + "\n")
            events.flush()

        for line in sys.stdin:
            job, clock = AssetJob.from_json(json.loads(line)), Clock(send)
            try:
                send({"event": "end", "outcome": _work(job, clock).to_json()})
            except _Refused as refused:
                send({"event": "end", "refused": refused.errno})


class _Refused(Exception):  # noqa: N818 (reads as what happened)
    """Storage failed, not the asset."""

    def __init__(self, number: int) -> None:
        super().__init__(number)
        self.errno = number


def _work(job: AssetJob, clock: Clock) -> Outcome:
    try:
        return process_asset(job, clock)
    except AssetError as error:
        code, message = error.code, error.message
    except MemoryError:
        traceback.print_exc()
        code, message = ReasonCode.OUT_OF_MEMORY, "an allocation failed"
    except OSError as error:
        # An asset may be unreadable in itself, but only packing writes to the output, and no asset fills a disk or
        # makes a file server disappear.
        if error.errno in (REFUSING if clock.stage == "pack" else FULL | AWAY):
            raise _Refused(error.errno) from error
        traceback.print_exc()
        code, message = ReasonCode.CRASHED, f"{type(error).__name__}: {error}"
    except Exception as error:  # noqa: BLE001 (every asset ends in a state; the log has the traceback)
        traceback.print_exc()
        code, message = ReasonCode.CRASHED, f"{type(error).__name__}: {error}"
    return Outcome(job.asset, code.state, code, stage=clock.stage, message=message, timings_s=clock.timings_s())


if __name__ == "__main__":
    main()
