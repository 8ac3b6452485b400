"""Locks on files, held by the kernel: they end with their process, however it dies."""

from __future__ import annotations

import contextlib
import fcntl
import os
import socket
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from helix4d.core.errors import ConfigError

LOCK_FILE = ".lock"


class NoLocksError(OSError):
    """The file system cannot lock files."""


@contextmanager
def file_lock(path: Path, *, shared: bool = False, wait: bool = True, create: bool = True) -> Iterator[BinaryIO]:
    """Hold a lock on a file while the block runs.

    Args:
        path: file to lock.
        shared: whether others may hold a shared lock at the same time.
        wait: whether to wait for the current holder.
        create: create the file and its folder if they are missing, and open it for reading and appending: NFS grants a
            shared lock only on a file open for reading, an exclusive one only on a file open for writing. Otherwise
            open it for reading only, which works on read-only storage.

    Yields:
        The open file.

    Raises:
        BlockingIOError: if another process holds the lock and `wait` is false.
        NoLocksError: if the file system has no locks; the caller decides whether to work without one.
        OSError: if the file cannot be opened.
    """
    if create:
        path.parent.mkdir(parents=True, exist_ok=True)
    operation = fcntl.LOCK_SH if shared else fcntl.LOCK_EX
    with open(path, "ab+" if create else "rb") as stream:
        try:
            fcntl.flock(stream, operation if wait else operation | fcntl.LOCK_NB)
        except BlockingIOError:
            raise
        except OSError as error:
            raise NoLocksError(error.errno, error.strerror, str(path)) from error
        yield stream


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold `folder/.lock` while the block runs, as the folder's only writer; the file names the holder.

    Raises:
        ConfigError: if another process holds the lock (the message names its host and process id), if the folder is
            not writable, or if its file system has no locks.
    """
    with contextlib.ExitStack() as stack:
        try:
            lock = stack.enter_context(file_lock(folder / LOCK_FILE, wait=False))
        except BlockingIOError as error:
            raise ConfigError(
                f"{folder}: another run is writing there ({_holder(folder)}): "
                "wait for it, stop it, or use another folder"
            ) from error
        except NoLocksError as error:
            raise ConfigError(
                f"{folder}: its file system does not support locks ({error.strerror}): use a folder on another one"
            ) from error
        except OSError as error:
            raise ConfigError(
                f"{folder}: cannot be written to ({error.strerror}): make it writable, or use another folder"
            ) from error
        since = datetime.now(UTC).isoformat(timespec="seconds")
        with contextlib.suppress(OSError):  # disk full: the name is only informative, and later writes wait for space
            os.ftruncate(lock.fileno(), 0)
            os.write(lock.fileno(), f"host {socket.gethostname()}, process {os.getpid()}, since {since}\n".encode())
        yield


def is_locked(folder: Path) -> bool:
    """Return whether another process holds `folder/.lock`. Works on read-only storage, as it writes nothing."""
    try:
        with file_lock(folder / LOCK_FILE, shared=True, wait=False, create=False):
            return False
    except (FileNotFoundError, NotADirectoryError):
        return False
    except BlockingIOError:
        return True


def _holder(folder: Path) -> str:
    """Return what the holder wrote into `folder/.lock`."""
    try:
        return (folder / LOCK_FILE).read_text(encoding="utf-8", errors="replace")[:200].strip() or "unknown"
    except OSError:
        return "unknown"
