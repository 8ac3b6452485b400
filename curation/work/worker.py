"""The child process of `Sandbox`, which processes assets sequentially."""

from __future__ import annotations

import ctypes
import errno
import faulthandler
import json
import os
import signal
import sys
import tempfile
import traceback

from helix4d.core import AssetError, ReasonCode, SetupError, setup_logging
from helix4d.core.extras import EXTRA_OF
from helix4d.core.messages import reproducible
from helix4d.core.storage import REFUSING
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.compilation import announced
from helix4d.curation.work.jobs import AssetJob
from helix4d.curation.work.sandbox import EVENTS_FD_VARIABLE, Event
from helix4d.curation.work.stages import Clock, process_asset

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Serve jobs until standard input ends."""
    faulthandler.enable()
    setup_logging()
    # Otherwise `tempfile` falls back to the working directory when the disk is full.
    tempfile.tempdir = os.environ.get("TMPDIR")
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
                with announced(clock.note):
                    outcome = _work(job, clock)
                send({"event": "end", "outcome": outcome.to_json()})
            except _Refused as refused:
                send({"event": "end", "refused": refused.errno, "where": refused.where})
            except SetupError as error:
                send({"event": "end", "unfit": str(error)})


class _Refused(Exception):  # noqa: N818 (reads as what happened)
    """Storage failed, not the asset."""

    def __init__(self, error: OSError) -> None:
        super().__init__(error.errno)
        self.errno = error.errno
        self.where = None if error.filename is None else os.fsdecode(error.filename)


def _work(job: AssetJob, clock: Clock) -> Outcome:
    """Turn a job into its outcome.

    Raises:
        SetupError: if this machine lacks what every asset needs.
        _Refused: if storage fails.
    """
    try:
        return process_asset(job, clock)
    except AssetError as error:
        code, message = error.code, error.message
    except SetupError:
        raise
    except ImportError as error:
        if (error.name or "").partition(".")[0] in EXTRA_OF:
            raise SetupError(f"a package of helix4d cannot be imported ({error}): reinstall it") from error
        code, message = _unexpected(error)  # a library's optional package: other assets may not need it
    except MemoryError:
        traceback.print_exc()
        code, message = ReasonCode.OUT_OF_MEMORY, "an allocation failed"
    except OSError as error:
        # These errors are not caused by the asset. `stages.py` reports an asset without read permission as an
        # `AssetError`, so a permission error here concerns a folder of the run.
        if error.errno in REFUSING:
            raise _Refused(error) from error
        code, message = _unexpected(error)
    except Exception as error:  # noqa: BLE001 (every asset ends in a state; the log has the traceback)
        code, message = _unexpected(error)
    return Outcome(job.asset, code.state, code, stage=clock.stage, message=message, timings_s=clock.timings_s())


def _unexpected(error: Exception) -> tuple[ReasonCode, str]:
    traceback.print_exc()
    if isinstance(error, OSError) and error.errno == errno.ENOMEM:
        return ReasonCode.OUT_OF_MEMORY, "the system is out of memory"
    return ReasonCode.CRASHED, reproducible(f"{type(error).__name__}: {error}")


if __name__ == "__main__":
    main()
