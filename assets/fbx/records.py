"""Adds up the arrays that a binary FBX file declares, before any is decompressed.

A file is a tree of records: end offset, number of properties, bytes of properties, name, properties, children
(https://code.blender.org/2013/08/fbx-binary-file-format-specification/).
"""

from __future__ import annotations

import struct
from pathlib import Path

from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode

_HEAD = 27
_WIDE_VERSION = 7500
"""First version with 64-bit offsets."""
_FIXED = {b"Y"[0]: 2, b"C"[0]: 1, b"B"[0]: 1, b"I"[0]: 4, b"F"[0]: 4, b"D"[0]: 8, b"L"[0]: 8}
_ARRAYS = {b"f"[0]: 4, b"d"[0]: 8, b"l"[0]: 8, b"i"[0]: 4, b"b"[0]: 1, b"c"[0]: 1}
_SIZED = b"SR"
_MAX_RECORDS = 5_000_000


def check_arrays(data: bytes, path: Path, limits: Limits) -> None:
    """Check the size of all arrays of a file together; a file that is not binary FBX has none that are compressed.

    An invalid record ends the check, because ufbx does not read beyond it either.

    Raises:
        AssetError: out_of_memory.
    """
    if not data.startswith(b"Kaydara FBX Binary") or len(data) < _HEAD:
        return
    (version,) = struct.unpack_from("<I", data, 23)
    layout = "<3QB" if version >= _WIDE_VERSION else "<3IB"
    size, at, total, records = struct.calcsize(layout), _HEAD, 0, 0
    while at + size <= len(data):
        end, count, properties, name = struct.unpack_from(layout, data, at)
        at += size
        if end == 0:  # ends the children of a record
            continue
        records += 1
        at += name
        if end > len(data) or at + properties > end or records > _MAX_RECORDS:
            break
        total += _array_bytes(data, at, at + properties, count)
        if total > limits.accessor_bytes:
            message = f"its arrays have at least {total:,} bytes, more than the limit of {limits.accessor_bytes:,}"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)
        at += properties
    if records > _MAX_RECORDS:
        message = f"has more records than the limit of {_MAX_RECORDS:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)


def _array_bytes(data: bytes, at: int, end: int, count: int) -> int:
    """Return the decompressed bytes of the arrays among the properties of a record."""
    total = 0
    for _ in range(count):
        if at >= end:
            break
        kind = data[at]
        at += 1
        if kind in _FIXED:
            at += _FIXED[kind]
        elif kind in _ARRAYS and at + 12 <= end:
            length, _, stored = struct.unpack_from("<3I", data, at)
            total += length * _ARRAYS[kind]
            at += 12 + stored
        elif kind in _SIZED and at + 4 <= end:
            at += 4 + int(struct.unpack_from("<I", data, at)[0])
        else:
            break
    return total
