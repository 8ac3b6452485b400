"""The container of binary glTF: a header, a chunk of JSON, a chunk of bytes. Reading untrusted files: `parse/`."""

from __future__ import annotations

import json
import struct
from collections.abc import Mapping
from typing import Any

_HEADER, _CHUNK = 12, 8


def pack_glb(document: Mapping[str, Any], binary: bytes) -> bytes:
    """Write a document and its first buffer as binary glTF."""
    text = json.dumps(document, sort_keys=True, separators=(",", ":"), allow_nan=False).encode()
    text += b" " * (-len(text) % 4)
    binary += b"\0" * (-len(binary) % 4)
    header = struct.pack("<4sII", b"glTF", 2, _HEADER + 2 * _CHUNK + len(text) + len(binary))
    return b"".join(
        [header, struct.pack("<I4s", len(text), b"JSON"), text, struct.pack("<I4s", len(binary), b"BIN\0"), binary]
    )


def unpack_glb(data: bytes) -> tuple[dict[str, Any], bytes]:
    """Return the document and the binary chunk of a file written by `pack_glb`."""
    (length,) = struct.unpack_from("<I", data, _HEADER)
    start = _HEADER + _CHUNK + length
    document: dict[str, Any] = json.loads(data[_HEADER + _CHUNK : start])
    return document, data[start + _CHUNK :]
