"""Ends connections that are too slow. Socket timeouts do not: they restart with every byte received."""

from __future__ import annotations

import contextlib
import os
import socket
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager


class Deadline:
    """The time by which a download must be complete.

    Args:
        seconds: time from now.
    """

    def __init__(self, seconds: float) -> None:
        self.seconds = seconds
        self._end = time.monotonic() + seconds

    def left_s(self) -> float:
        """Return the remaining seconds; negative after the deadline."""
        return self._end - time.monotonic()

    @contextmanager
    def paused(self) -> Iterator[None]:
        """Exclude the duration of the block, which waits for this machine and not for the server."""
        begin = time.monotonic()
        try:
            yield
        finally:
            self._end += time.monotonic() - begin


class Watch:
    """Context manager whose thread shuts a slow connection down, so that a blocked read ends.

    Args:
        fileno: the connection's file descriptor.
        window_s: seconds over which the rate is measured.
        least_bytes: bytes that must arrive in every window.
        deadline: when the transfer must be complete; None for no deadline.

    Attributes:
        received: bytes received; the reader adds to it.
        problem: why the connection was shut down; "" if it was not.
    """

    def __init__(self, fileno: int, window_s: float, least_bytes: float, deadline: Deadline | None = None) -> None:
        self._socket = socket.socket(fileno=os.dup(fileno))
        self._window_s, self._least_bytes, self._deadline = window_s, least_bytes, deadline
        self._done = threading.Event()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self.received = 0
        self.problem = ""

    def __enter__(self) -> Watch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._done.set()
        self._thread.join()
        self._socket.close()

    def _run(self) -> None:
        before = 0
        while not self._done.wait(self._wait_s()):
            if self._deadline and self._deadline.left_s() <= 0:
                self.problem = f"not complete after {self._deadline.seconds:g} s"
            elif self.received - before < self._least_bytes:
                count = self.received - before
                self.problem = f"too slow: {count:,} bytes in {self._window_s:g} s"
            if self.problem:
                with contextlib.suppress(OSError):  # the server may have closed it
                    self._socket.shutdown(socket.SHUT_RDWR)
                return
            before = self.received

    def _wait_s(self) -> float:
        left = self._deadline.left_s() if self._deadline else self._window_s
        return max(0.0, min(self._window_s, left))
