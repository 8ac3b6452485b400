"""One writer per folder. The kernel holds the lock, so it is released when its process ends, even if killed."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

from helix4d.core.errors import ConfigError

LOCK_FILE = ".lock"


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/.lock` while the block runs; the file names the holder.

    Raises:
        ConfigError: if another process holds the lock (the message names its host and process id), if the folder is
            not writable, or if its file system does not support locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not "w": that would erase the holder's name before we know whether the lock is held.
        lock = open(folder / LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(
            f"{folder}: cannot be written to ({error.strerror}): make it writable, or use another folder"
        ) from error
    with lock:
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            lock.seek(0)
            holder = lock.read(200).strip() or "unknown"
            raise ConfigError(
                f"{folder}: another run is writing there ({holder}): wait for it, stop it, or use another folder"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be locked ({error.strerror}): use a folder on a file system that supports flock"
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk; the name is only informative, and later writes will wait
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"host {socket.gethostname()}, process {os.getpid()}, since {since}\n".encode())
        yield


def is_locked(folder: Path) -> bool:
    """Return whether another process holds `folder/.lock`. Works on read-only storage, as it writes nothing."""
    try:
        with open(folder / LOCK_FILE, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False
