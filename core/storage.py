"""Retry writes while storage is full, read-only or temporarily unavailable."""

from __future__ import annotations

import errno
import logging
import os
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from helix4d.core.errors import Helix4DError

log = logging.getLogger(__name__)

T = TypeVar("T")

FULL = frozenset({errno.ENOSPC, errno.EDQUOT})
AWAY = frozenset({errno.ESTALE, errno.ETIMEDOUT, errno.ENODEV, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO})
"""Errors of a network file system whose server is unreachable, for reads and writes alike."""
REFUSING = FULL | AWAY | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""Errors caused by the state of a disk or mount rather than by the write itself."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class StorageError(Helix4DError):
    """Storage kept refusing a write for longer than the allowed time. Everything written earlier is on disk."""


def insist(write: Callable[[], T], path: Path, patience_s: float, tell: Callable[[str], object] = log.warning) -> T:
    """Call `write` until it succeeds, with pauses that double from half a second to half a minute.

    Args:
        write: function that is atomic or safe to repeat.
        path: file or folder that it writes, for messages.
        patience_s: seconds from the first refusal to the last attempt.
        tell: receives one message before each pause.

    Returns:
        The return value of `write`.

    Raises:
        StorageError: if storage still refuses the write after `patience_s`.
        OSError: immediately, for any error that waiting cannot resolve.
    """
    deadline: float | None = None
    pause_s = _FIRST_PAUSE_S
    while True:
        try:
            return write()
        except OSError as error:
            if error.errno not in REFUSING:
                raise
            now = time.monotonic()
            deadline = now + patience_s if deadline is None else deadline
            left_s = deadline - now
            why = os.strerror(error.errno)
            if left_s <= 0:
                raise StorageError(
                    f"{path}: could not be written for {patience_s:g} s ({why}): free some space or make it writable, "
                    "then rerun the same command; finished work is kept"
                ) from error
            pause_s = min(pause_s, left_s)
            tell(f"{path}: cannot be written ({why}): retrying in {pause_s:.1f} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
