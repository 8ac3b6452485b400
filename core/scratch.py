"""Temporary folders that do not outlive their owners, however those die."""

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
    """An empty temporary folder while the block runs.

    A killed process cannot remove its own; it no longer holds its lock either, by which the next one to come finds and
    removes it. So `prefix` must be of one program's own, such as "helix4d-archive-".
    """
    for lock in Path(tempfile.gettempdir()).glob(f"{prefix}*/{_LOCK}"):
        with contextlib.suppress(OSError), file_lock(lock, wait=False, create=False):
            shutil.rmtree(lock.parent, ignore_errors=True)
    with tempfile.TemporaryDirectory(prefix=prefix) as name, file_lock(Path(name, "own")):
        Path(name, "own").rename(Path(name, _LOCK))  # only now can others find it
        folder = Path(name, _CONTENT)
        folder.mkdir()
        yield folder
