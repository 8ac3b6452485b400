"""Temporary folders that do not outlive their owners, even if those are killed."""

from __future__ import annotations

import contextlib
import fcntl
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

_LOCK = "lock"
_CONTENT = "content"


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Provide an empty temporary folder while the block runs.

    A killed process leaves its folder behind without a lock; the next call with the same prefix finds and removes it.
    So `prefix` must not be used by any other program: "helix4d-archive-", for example.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), open(lock, "rb") as stream:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as name, open(Path(name, "own"), "wb") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        Path(name, "own").rename(Path(name, _LOCK))  # visible to others only once it is locked
        folder = Path(name, _CONTENT)
        folder.mkdir()
        yield folder
