"""A child process that can crash, hang or run out of memory at the cost of one job only.

The child (`worker.py`) reads jobs as lines of JSON from its standard input and writes events as lines of JSON to a pipe
of its own: at least one before it opens an asset, and `{"event": "end", ...}` at the end of a job. It is kept for the
next job, so that Blender starts once, killed when a job exceeds its time or memory limit, and replaced when it has
grown too large or something in it has failed.
"""

from __future__ import annotations

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from typing import IO, Any

import psutil

from helix4d.core import Helix4DError, ReasonCode, SetupError
from helix4d.core.processes import child_environment, child_environment_without_secrets
from helix4d.core.scratch import scratch_folder, temporary_directory
from helix4d.curation.config import Limits

EVENTS_FD_VARIABLE = "HELIX4D_EVENTS_FD"
Event = dict[str, Any]

_POLL_S = 0.2
_FAREWELL_S = 10.0
"""Seconds that a child may take to exit after it has closed its pipe."""
_LOG_TAIL_BYTES = 4000
_MODULES = re.compile(r"\n*Extension modules: .* \(total: \d+\)\n")
"""The last part of Python's crash report, which has thousands of characters and would displace the output before it."""
_DEVICE_VARIABLES = ("CUDA_VISIBLE_DEVICES", "HIP_VISIBLE_DEVICES", "ROCR_VISIBLE_DEVICES", "ONEAPI_DEVICE_SELECTOR")


class JobDied(Helix4DError):  # noqa: N818 (reads as what happened)
    """The child died, or was killed, before the end of its job.

    Attributes:
        code: timeout, out_of_memory or crashed.
        log: end of the child's output.
        peak_bytes: largest resident size of the child that was observed.
    """

    def __init__(self, code: ReasonCode, message: str, log: str, peak_bytes: int) -> None:
        super().__init__(message)
        self.code, self.log, self.peak_bytes = code, log, peak_bytes


class Sandbox:
    """Runs jobs sequentially in a child process.

    Args:
        limits: limits of each job.
        threads: number of threads for the child's numerical libraries.
        module: module that the child runs, which must follow the protocol above.

    Raises:
        SetupError: if there is no temporary directory.
    """

    def __init__(self, limits: Limits, threads: int, module: str = "helix4d.curation.work.worker") -> None:
        self._limits = limits
        self._threads = threads
        self._module = module
        self._child: subprocess.Popen[bytes] | None = None
        self._scratch = ExitStack()
        self._events = -1
        self._buffer = b""
        self._started = False
        self._log: IO[bytes] = tempfile.TemporaryFile("a+b", prefix="helix4d-log-", dir=temporary_directory())  # noqa: SIM115
        self._jobs_done = 0
        self._devices: list[str | None] = []
        self._downloads = False

    def run(self, job: Mapping[str, Any], on_event: Callable[[Event], None]) -> tuple[Event, int]:
        """Run one job.

        Args:
            job: content of the job, as JSON.
            on_event: called with every event except the last.

        Returns:
            The `end` event, and the largest resident size that was observed, in bytes.

        Raises:
            JobDied: if the child crashes, or exceeds its time or memory limit.
            SetupError: if the child dies before it has begun any job.
        """
        child = self._living_child(downloads=job.get("remote") is not None)
        self._log.seek(0)
        self._log.truncate()
        assert child.stdin is not None
        peak = 0
        deadline = time.monotonic() + self._limits.timeout_s
        try:
            child.stdin.write(json.dumps(job).encode() + b"\n")
            child.stdin.flush()
            while True:
                for event in self._read_events():
                    self._started = True
                    if event["event"] == "end":
                        self._jobs_done += 1
                        peak = max(peak, _resident_bytes(child.pid))
                        if _has_failed(event):
                            self._kill()  # what follows starts without open files, stale handles and a lost GPU
                        return event, peak
                    on_event(event)
                resident = _resident_bytes(child.pid)
                peak = max(peak, resident)
                if resident > self._limits.memory_gb * 1e9:
                    message = f"exceeded its limit of {self._limits.memory_gb:g} GB of memory"
                    raise self._died(ReasonCode.OUT_OF_MEMORY, message, peak)
                if time.monotonic() > deadline:
                    message = f"timed out after {self._limits.timeout_s:g} s"
                    raise self._died(ReasonCode.TIMEOUT, message, peak)
        except (BrokenPipeError, EOFError) as error:
            raise self._crashed(peak) from error

    def close(self) -> None:
        """End the child."""
        self._kill()
        self._log.close()

    def log_tail(self) -> str:
        """End of the child's output during its last job."""
        size = self._log.seek(0, os.SEEK_END)
        self._log.seek(max(0, size - 4 * _LOG_TAIL_BYTES))
        text = _MODULES.sub("", self._log.read().decode(errors="replace"))
        return text[-_LOG_TAIL_BYTES:]

    def resident_bytes(self) -> int:
        """Current resident size of the child, 0 without a child."""
        return 0 if self._child is None else _resident_bytes(self._child.pid)

    @property
    def pid(self) -> int | None:
        """Process id of the child, None without a child."""
        return None if self._child is None else self._child.pid

    def _living_child(self, downloads: bool = False) -> subprocess.Popen[bytes]:
        """Return a child for the next job. Only a child that `downloads` is given the environment's secrets."""
        child = self._child
        if child is not None and child.poll() is None and not self._should_replace(child, downloads):
            return child
        self._kill()
        reader, writer = os.pipe()
        variables = {name: str(self._threads) for name in ("OMP_NUM_THREADS", "NUMBA_NUM_THREADS")}
        variables["OPENBLAS_NUM_THREADS"] = "1"  # NumPy's: with more, the last bits of long sums depend on their number
        # Blender leaves temporary files behind when it is killed, which is how every child ends.
        variables["TMPDIR"] = str(self._scratch.enter_context(scratch_folder("helix4d-worker-")))
        environment = child_environment if downloads else child_environment_without_secrets
        self._child = subprocess.Popen(
            [sys.executable, "-m", self._module],
            stdin=subprocess.PIPE,
            stdout=self._log,
            stderr=subprocess.STDOUT,
            pass_fds=[writer],
            env=environment(**variables, **{EVENTS_FD_VARIABLE: str(writer)}),
        )
        os.close(writer)
        self._devices, self._downloads = _visible_devices(), downloads
        self._events, self._buffer, self._jobs_done, self._started = reader, b"", 0, False
        return self._child

    def _should_replace(self, child: subprocess.Popen[bytes], downloads: bool) -> bool:
        limits = self._limits
        grown = _resident_bytes(child.pid) > min(limits.resting_gb, limits.memory_gb / 2) * 1e9
        # Ray may reserve a different GPU for the next job of the same process.
        changed = self._devices != _visible_devices() or self._downloads != downloads
        return grown or changed or self._jobs_done >= limits.assets_per_process

    def _read_events(self) -> list[Event]:
        if not select.select([self._events], [], [], _POLL_S)[0]:
            return []
        data = os.read(self._events, 1 << 16)
        if not data:
            raise EOFError
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def _died(self, code: ReasonCode, message: str, peak: int) -> JobDied:
        self._kill()
        return JobDied(code, message, self.log_tail(), peak)

    def _crashed(self, peak: int) -> Helix4DError:
        child = self._child
        assert child is not None
        try:
            status = child.wait(_FAREWELL_S)
        except subprocess.TimeoutExpired:
            return self._died(ReasonCode.CRASHED, "the worker process stopped responding", peak)
        how = f"signal {signal.Signals(-status).name}" if status < 0 else f"exit status {status}"
        # The kernel's out-of-memory killer leaves no trace but this signal, which nothing else here sends.
        code = ReasonCode.OUT_OF_MEMORY if status == -signal.SIGKILL else ReasonCode.CRASHED
        if not self._started and code is ReasonCode.CRASHED:
            self._kill()
            printed = next(filter(None, map(str.strip, reversed(self.log_tail().splitlines()))), "nothing")
            return SetupError(f"the worker process cannot start ({how}); it printed: {printed}")
        return self._died(code, f"the worker process died ({how})", peak)

    def _kill(self) -> None:
        if self._child is not None:
            self._child.kill()
            self._child.wait()
            if self._child.stdin is not None:
                self._child.stdin.close()
            os.close(self._events)
            self._child = None
        self._scratch.close()


def _has_failed(end: Event) -> bool:
    """Return whether a job ended because of something that may still be wrong in the child."""
    crashed = end.get("outcome", {}).get("reason") == ReasonCode.CRASHED
    return crashed or "refused" in end or "unfit" in end


def _visible_devices() -> list[str | None]:
    return [os.environ.get(name) for name in _DEVICE_VARIABLES]


def _resident_bytes(pid: int) -> int:
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.NoSuchProcess:
        return 0
