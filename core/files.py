"""Files that appear whole or not at all, and hashes of their contents."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO

_BLOCK_BYTES = 1 << 20
_SYNCS_NO_FOLDERS = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""What CIFS and some FUSE file systems answer; their renames are as durable as they are."""


@contextmanager
def atomic_writer(path: Path) -> Iterator[BinaryIO]:
    """Open a temporary file beside `path` that takes its name only if the block ends without an error.

    The data is on disk before the rename and the rename is on disk before this returns (fsync of file and folder).
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, 0o644)  # mkstemp makes files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` durable, where its file system can."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _SYNCS_NO_FOLDERS:
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes) -> None:
    """Atomic `Path.write_bytes`."""
    with atomic_writer(path) as stream:
        stream.write(data)


def write_json(path: Path, value: Any) -> None:
    """Atomically write `canonical_json(value)`."""
    write_bytes(path, canonical_json(value))


def canonical_json(value: Any) -> bytes:
    """UTF-8 JSON whose bytes depend on the value alone: sorted keys, one space of indent, no NaN.

    Half a surrogate pair (in names of files that are no UTF-8, or in strangers' JSON) stays escaped: UTF-8 lacks it.

    Raises:
        ValueError: for NaN and infinities, which JSON cannot hold.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # Python's escape is JSON's


def sha256_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in blocks."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: Any) -> str:
    """Hex SHA-256 of `canonical_json(value)`: the hash of a configuration."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
