"""Storage that fails: separates faults of the machine from faults of a file, and retries writes until it recovers."""

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
"""Errors caused by the state of a machine, disk or mount, whichever file is read or written."""
FAULTS = LOCAL_FAULTS | {errno.ETIMEDOUT, errno.ENOTCONN, errno.EHOSTDOWN, errno.EREMOTEIO}
"""The same, and those of network file systems whose server is unreachable. A socket may raise these, too."""
REFUSING = FAULTS | {errno.EACCES, errno.EPERM}
"""Errors that an operator can cure while a run waits, in folders that the run itself uses."""

_BLOCK_BYTES = 1 << 20
_FIRST_PAUSE_S = 0.5
_LONGEST_PAUSE_S = 30.0


class StorageError(Helix4DError):
    """Storage kept refusing a write for longer than the allowed time. Everything written earlier is on disk."""


def is_fault(error: BaseException) -> bool:
    """Return whether an error is the machine's (a full disk, a lost file server), not that of the file concerned.

    Decoders raise `OSError` without a number for broken files, which is not such a fault.
    """
    return isinstance(error, OSError) and error.errno in FAULTS


def fault_in(text: str, path: Path) -> OSError | None:
    """Find the storage error that a library only printed, or put into the message of another error.

    Args:
        text: message or output, in English.
        path: file or folder concerned.

    Returns:
        An error with a number of `FAULTS`; None if the text names no such error.
    """
    number = next((number for number in sorted(FAULTS) if os.strerror(number) in text), None)
    return None if number is None else OSError(number, os.strerror(number), str(path))


def require_room(folder: Path, size_bytes: int) -> None:
    """Write a file of this size and remove it, to learn why a library that gives no reason could not.

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
    """Return where an operator should look. A temporary file stands for its folder, as its own name is random."""
    if error.filename is None:
        return str(path)
    named, temporary = Path(os.fsdecode(error.filename)), Path(tempfile.gettempdir())
    if named.is_relative_to(temporary) and not path.is_relative_to(temporary):
        return f"{temporary} (temporary files)"
    return str(path if named.parent == path.parent else named)
