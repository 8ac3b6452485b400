"""Temporary folders that do not outlive their owners, even if those are killed."""

from __future__ import annotations

import contextlib
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from helix4d.core.locks import file_lock

_LOCK = "lock"
_CONTENT = "content"


@contextmanager
def scratch_folder(prefix: str) -> Iterator[Path]:
    """Provide an empty temporary folder while the block runs.

    A killed process leaves its folder behind without a lock; the next call with the same prefix finds and removes it.
    So `prefix` must not be used by any other program: "helix4d-archive-", for example.
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), file_lock(lock, wait=False, create=False):
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as name, file_lock(Path(name, "own")):
        Path(name, "own").rename(Path(name, _LOCK))  # visible to others only once it is locked
        folder = Path(name, _CONTENT)
        folder.mkdir()
        yield folder
