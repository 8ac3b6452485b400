"""One writer per folder. The lock is the kernel's, so it ends with its process, however that dies."""

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
    """Hold `folder/.lock` while the block runs; the file says who holds it.

    Raises:
        ConfigError: if another process holds it; the message names its host and process id. If the folder cannot be
            written to, or its file system has no locks.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Not "w": that would wipe out the holder's name before we know that there is one.
        lock = open(folder / LOCK_FILE, "a+", encoding="utf-8")  # noqa: SIM115
    except OSError as error:
        raise ConfigError(f"{folder}: cannot be written to ({error.strerror})") from error
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
                f"{folder}: its file system gives no locks ({error.strerror}): use a folder on another one"
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # a full disk: this is for people alone, what is written next waits for room
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"host {socket.gethostname()}, process {os.getpid()}, since {since}\n".encode())
        yield


def is_locked(folder: Path) -> bool:
    """Whether another process holds `folder/.lock`. Writes nothing, so it works on a read-only store."""
    try:
        with open(folder / LOCK_FILE, "rb") as lock:
            fcntl.flock(lock, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True
    return False
