"""Writes that wait while their storage refuses them: full, read-only, or away for a while."""

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
"""What a network file system answers while its server is gone, whatever is read or written."""
REFUSING = FULL | AWAY | {errno.EROFS, errno.EACCES, errno.EPERM, errno.EIO}
"""What a disk, a network file system or a mount answers while something is wrong with it, not with what is written."""

_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class StorageError(Helix4DError):
    """A folder took no writes for longer than we wait. What was finished before is on disk."""


def insist(write: Callable[[], T], path: Path, patience_s: float, tell: Callable[[str], object] = log.warning) -> T:
    """Call `write` until storage takes it, with pauses that double from half a second to half a minute.

    Args:
        write: atomic, or harmless to repeat.
        path: what it writes, for messages.
        patience_s: seconds from the first refusal to the last attempt.
        tell: is given a sentence before each pause.

    Returns:
        What `write` returns.

    Raises:
        StorageError: if it is refused to the end.
        OSError: for anything that waiting does not cure; at once.
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
                    f"{path}: could not be written for {patience_s:g} s ({why}): make room or make it writable, and "
                    "run the same command again; what is finished is kept"
                ) from error
            pause_s = min(pause_s, left_s)
            tell(f"{path}: cannot be written ({why}): trying again in {pause_s:.1f} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)
