"""Temporary folders that do not outlive their owners, even if those are killed.

The temporary directory may be shared with other users, who can put folders, links and pipes there under any name. So
nothing in it is opened by its path alone: links are not followed, and files of other users are left alone.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helix4d.core.errors import SetupError
from helix4d.core.locks import file_lock

_LOCK = "lock"
_CONTENT = "content"
_WRITABLE_BY_OTHERS = stat.S_IWGRP | stat.S_IWOTH


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Provide an empty temporary folder while the block runs.

    A killed process leaves its folder behind without a lock; the next call with the same prefix finds and removes it.
    So `prefix` must not be used by any other program: "helix4d-archive-", for example.

    Raises:
        SetupError: if there is no temporary directory.
    """
    _remove_abandoned(prefix)
    with tempfile.TemporaryDirectory(prefix=prefix) as name, file_lock(Path(name, "own")):
        Path(name, "own").rename(Path(name, _LOCK))  # visible to others only once it is locked
        folder = Path(name, _CONTENT)
        folder.mkdir()
        yield folder


def temporary_directory() -> str:
    """Return the directory for temporary files.

    Raises:
        SetupError: if none of the usual ones can be written to.
    """
    try:
        return tempfile.gettempdir()
    except FileNotFoundError as error:
        raise SetupError(
            f"{error.strerror}: make one of them writable, free some space on it, or set TMPDIR"
        ) from error


def own_folder(path: Path) -> Path:
    """Return a folder that only this user can write to, created if it is missing.

    Raises:
        SetupError: if the path is a link or not a folder, or if another user owns it or can write to it.
    """
    with contextlib.suppress(FileExistsError):
        path.mkdir(mode=0o700, parents=True)
    with contextlib.suppress(OSError):
        descriptor = _open_own_folder(path)
        try:
            if not os.fstat(descriptor).st_mode & _WRITABLE_BY_OTHERS:
                return path
        finally:
            os.close(descriptor)
    raise SetupError(
        f"{path}: is a link, or belongs to another user, or is writable by others: remove it, or set TMPDIR to a "
        "folder of your own"
    )


def _remove_abandoned(prefix: str) -> None:
    parent = temporary_directory()
    for name in sorted(entry for entry in os.listdir(parent) if entry.startswith(prefix)):
        folder = Path(parent, name)
        with contextlib.suppress(OSError), _locked(folder):
            shutil.rmtree(folder, ignore_errors=True)  # does not follow links


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    """Hold the lock of a scratch folder of this user.

    Raises:
        OSError: if it is in use, is not a scratch folder, or belongs to another user.
    """
    with contextlib.ExitStack() as stack:
        descriptor = _open_own_folder(folder)
        stack.callback(os.close, descriptor)
        # Relative to the folder that was checked. O_NONBLOCK, because opening a pipe would wait for its writer.
        lock = os.open(_LOCK, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=descriptor)
        stack.callback(os.close, lock)
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        yield


def _open_own_folder(path: Path) -> int:
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    if os.fstat(descriptor).st_uid != os.geteuid():
        os.close(descriptor)
        raise PermissionError(f"{path}: belongs to another user")
    return descriptor
