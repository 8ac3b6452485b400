"""Captures the output of native libraries, which bypasses `sys.stdout` and `sys.stderr`."""

from __future__ import annotations

import faulthandler
import os
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, redirect_stderr, redirect_stdout
from typing import BinaryIO

_TAIL_BYTES = 2000
_HEAD_BYTES = 1 << 16
_ONE_AT_A_TIME = threading.RLock()
"""Descriptors belong to the process: two threads that redirect them at once would restore each other's files."""


class CapturedOutput:
    """The output of a `captured_output` block, which can be read during the block and after it."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._final = ""

    def tail(self) -> str:
        """Return the last 2,000 bytes, decoded as UTF-8."""
        if self._stream.closed:
            return self._final
        size = self._stream.seek(0, os.SEEK_END)
        self._stream.seek(max(0, size - _TAIL_BYTES))
        return self._stream.read().decode("utf-8", "replace")

    def head(self) -> str:
        """Return the first 64 KB. Valid only inside the block."""
        self._stream.seek(0)
        text = self._stream.read(_HEAD_BYTES).decode("utf-8", "replace")
        self._stream.seek(0, os.SEEK_END)
        return text

    def close(self) -> None:
        """Keep the tail, and close the file."""
        self._final = self.tail()
        self._stream.close()


@contextmanager
def captured_output(*descriptors: int) -> Iterator[CapturedOutput]:
    """Redirect file descriptors, and the corresponding Python streams, to a temporary file while the block runs.

    Args:
        descriptors: 1 for standard output, 2 for standard error. If `faulthandler` is enabled, it still writes to
            the original standard error when the block crashes.
    """
    with _ONE_AT_A_TIME, ExitStack() as stack:
        stream = stack.enter_context(tempfile.TemporaryFile())
        output = CapturedOutput(stream)
        stack.callback(output.close)
        text = stack.enter_context(open(stream.fileno(), "w", encoding="utf-8", buffering=1, closefd=False))
        for number in descriptors:
            (sys.stdout if number == 1 else sys.stderr).flush()
            saved = os.dup(number)
            stack.callback(_restore, saved, number)
            if number == 2 and faulthandler.is_enabled():
                faulthandler.enable(saved)
                stack.callback(faulthandler.enable, 2)
            os.dup2(stream.fileno(), number)
            # Native code may also print through Python.
            stack.enter_context(redirect_stdout(text) if number == 1 else redirect_stderr(text))
        yield output


def _restore(saved: int, number: int) -> None:
    os.dup2(saved, number)
    os.close(saved)
