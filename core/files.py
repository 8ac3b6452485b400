"""Atomic file writes, canonical JSON and content hashes."""

from __future__ import annotations

import errno
import hashlib
import json
import os
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO

_BLOCK_BYTES = 1 << 20
_FOLDER_SYNC_UNSUPPORTED = frozenset({errno.EINVAL, errno.ENOTSUP, errno.ENOSYS})
"""Errors of file systems that cannot sync a folder (CIFS, some FUSE mounts); nothing more can be done there."""


@contextmanager
def atomic_writer(path: Path, mode: int = 0o644) -> Iterator[BinaryIO]:
    """Open a temporary file next to `path` and rename it to `path` if the block completes without an error.

    Whatever the umask, the file has the permissions `mode`. File and folder are both synced, so the new file survives a
    power failure once this returns.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, temporary = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=".tmp")
    try:
        with os.fdopen(descriptor, "wb") as stream:
            yield stream
            stream.flush()
            os.fsync(stream.fileno())
        os.chmod(temporary, mode)  # mkstemp creates files that only their owner can read
        os.replace(temporary, path)
    except BaseException:
        Path(temporary).unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


def fsync_folder(folder: Path) -> None:
    """Make renames and removals inside `folder` durable, if its file system supports that."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    except OSError as error:
        if error.errno not in _FOLDER_SYNC_UNSUPPORTED:
            raise
    finally:
        os.close(descriptor)


def write_bytes(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Write a file atomically."""
    with atomic_writer(path, mode) as stream:
        stream.write(data)


def write_json(path: Path, value: object, mode: int = 0o644) -> None:
    """Write `canonical_json(value)` atomically."""
    write_bytes(path, canonical_json(value), mode)


def canonical_json(value: object) -> bytes:
    """Encode a value as UTF-8 JSON whose bytes depend on the value alone: sorted keys, one space of indent.

    Lone surrogates (from file names that are not UTF-8, or from untrusted JSON) stay escaped, as UTF-8 cannot encode
    them.

    Raises:
        ValueError: if the value contains NaN or infinity, which JSON cannot represent.
    """
    text = json.dumps(value, sort_keys=True, indent=1, ensure_ascii=False, allow_nan=False) + "\n"
    return text.encode(errors="backslashreplace")  # Python and JSON write the same escape


def sha256_file(path: Path) -> str:
    """Return the hex SHA-256 of a file."""
    digest = hashlib.sha256()
    with open(path, "rb") as stream:
        while block := stream.read(_BLOCK_BYTES):
            digest.update(block)
    return digest.hexdigest()


def sha256_json(value: object) -> str:
    """Return the hex SHA-256 of `canonical_json(value)`, used to hash configurations."""
    return hashlib.sha256(canonical_json(value)).hexdigest()
