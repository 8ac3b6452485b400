"""Storage failures: distinguishes faults of the machine from faults of a file, and retries writes until it recovers."""

from __future__ import annotations

import errno
import logging
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import TypeVar

from helix4d.core.errors import Helix4DError

log = logging.getLogger(__name__)

T = TypeVar("T")

LOCAL_FAULTS = frozenset(
    {errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EIO, errno.EMFILE, errno.ENFILE, errno.ESTALE, errno.ENODEV}
)
"""Errors caused by the state of a machine, disk or mount, not by the file that is read or written."""
FAULTS = LOCAL_FAULTS | {errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}
"""`LOCAL_FAULTS` and errors of network file systems whose server is unreachable. Sockets may raise the latter, too."""
REFUSING = FAULTS | {errno.EACCES, errno.EPERM}
"""Errors that an operator can fix while a run waits, in folders that the run itself uses."""

_BLOCK_BYTES = 1 << 20
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class StorageError(Helix4DError):
    """Storage kept refusing a write for longer than the allowed time. Everything written earlier is on disk."""


def is_fault(error: BaseException) -> bool:
    """Return whether an error is a fault of the machine (a full disk, a lost file server) and not of the file.

    Decoders raise `OSError` without `errno` for broken files, which is not such a fault.
    """
    return isinstance(error, OSError) and error.errno in FAULTS


def fault_in(text: str, path: Path) -> OSError | None:
    """Find a storage error that a library only printed or included in the message of another error.

    Args:
        text: message or output, in English.
        path: file or folder concerned.

    Returns:
        An error whose `errno` is in `FAULTS`; None if the text names no such error.
    """
    number = next((number for number in sorted(FAULTS) if os.strerror(number) in text), None)
    return None if number is None else OSError(number, os.strerror(number), str(path))


def require_room(folder: Path, size_bytes: int) -> None:
    """Write a temporary file of this size, to find out why a library failed to write without giving a reason.

    Raises:
        OSError: if storage fails; its `filename` is a path in the folder.
    """
    try:
        with tempfile.TemporaryFile(dir=folder) as stream:
            while size_bytes > 0:
                size_bytes -= stream.write(bytes(min(size_bytes, _BLOCK_BYTES)))
            stream.flush()
            os.fsync(stream.fileno())
    except OSError as error:
        if error.filename is None:
            error.filename = str(folder)
        raise


def insist(write: Callable[[], T], path: Path, patience_s: float, tell: Callable[[str], object] = log.warning) -> T:
    """Call `write` until it succeeds, with pauses that double from half a second to half a minute.

    Args:
        write: function that is atomic or safe to repeat.
        path: file or folder that it writes, for messages about errors that name no file.
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
            where, why = _place(error, path), os.strerror(error.errno)
            if left_s <= 0:
                raise StorageError(
                    f"{where}: could not be written for {patience_s:g} s ({why}): free some space or make it writable, "
                    "then rerun the same command; finished work is kept"
                ) from error
            pause_s = min(pause_s, left_s)
            tell(f"{where}: cannot be written ({why}): retrying in {pause_s:.1f} s")
        time.sleep(pause_s)
        pause_s = min(2 * pause_s, _LONGEST_PAUSE_S)


def _place(error: OSError, path: Path) -> str:
    """Return the path to report. For a temporary file, this is its folder, because its own name is random."""
    if error.filename is None:
        return str(path)
    named, temporary = Path(os.fsdecode(error.filename)), Path(tempfile.gettempdir())
    if named.is_relative_to(temporary) and not path.is_relative_to(temporary):
        return f"{temporary} (temporary files)"
    return str(path if named.parent == path.parent else named)
