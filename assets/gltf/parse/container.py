"""Reads a .glb or .gltf file into parsed JSON and the GLB's binary chunk (glTF 2.0 section 4).

The format is detected from the first bytes of the file, not from its suffix.
"""

from __future__ import annotations

import json
import struct
from dataclasses import dataclass
from pathlib import Path
from typing import NoReturn

from helix4d.assets.gltf.parse.values import Json
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.storage import is_fault

_MAGIC = b"glTF"
_JSON_CHUNK = 0x4E4F534A
_BIN_CHUNK = 0x004E4942


@dataclass(frozen=True)
class Container:
    """Contents of a file: parsed JSON and the first binary chunk, if any."""

    values: dict[str, Json]
    binary: bytes | None
    warnings: tuple[str, ...] = ()


def read_container(path: Path, limits: Limits) -> Container:
    """Read the file and parse its JSON.

    Raises:
        AssetError: empty_file, not_gltf, corrupt_file, unsupported_gltf_version, invalid_gltf or out_of_memory.
        OSError: if storage fails.
    """
    data = _read(path, limits)
    if data[:4] == _MAGIC:
        return _read_glb(path, data, limits)
    if data.lstrip(b"\xef\xbb\xbf \t\r\n")[:1] != b"{":
        # The content is not quoted, because a URL may have led to a page that is not public.
        raise AssetError(ReasonCode.NOT_GLTF, "neither GLB nor JSON: is it a web page or a Git LFS pointer?", path)
    return Container(_parse_json(path, data, limits), None)


def _read(path: Path, limits: Limits) -> bytes:
    try:
        if not path.is_file():
            raise AssetError(ReasonCode.CORRUPT_FILE, "does not exist, or is not a regular file", path)
        size = path.stat().st_size
        if size > limits.file_bytes:
            raise AssetError(
                ReasonCode.OUT_OF_MEMORY, f"has {size:,} bytes, more than the limit of {limits.file_bytes:,}", path
            )
        data = path.read_bytes()
    except (OSError, ValueError) as error:
        if is_fault(error):
            raise
        raise AssetError(ReasonCode.CORRUPT_FILE, f"cannot be read ({error})", path) from error
    if not data:
        raise AssetError(ReasonCode.EMPTY_FILE, "the file is empty", path)
    return data


def _read_glb(path: Path, data: bytes, limits: Limits) -> Container:
    def corrupt(message: str) -> NoReturn:
        raise AssetError(ReasonCode.CORRUPT_FILE, f"{message}: the file is truncated or corrupt", path)

    if len(data) < 12:
        corrupt(f"a GLB header needs 12 bytes, but the file has {len(data)}")
    version, length = struct.unpack_from("<II", data, 4)
    if version != 2:
        message = f"GLB version {version} is not supported: convert the file to glTF 2.0"
        raise AssetError(ReasonCode.UNSUPPORTED_GLTF_VERSION, message, path)
    if length > len(data):
        corrupt(f"the GLB header declares {length:,} bytes, but the file has {len(data):,}")
    warnings = [f"GLB: {len(data) - length:,} trailing bytes: ignored"] if length < len(data) else []
    chunks: list[tuple[int, bytes]] = []
    position = 12
    while position < length:
        if position + 8 > length:
            corrupt(f"the chunk header at byte {position:,} is incomplete")
        size, kind = struct.unpack_from("<II", data, position)
        position += 8
        if position + size > length:
            corrupt(f"the chunk at byte {position:,} needs {size:,} bytes, but only {length - position:,} are left")
        chunks.append((kind, data[position : position + size]))
        position += size
        padding = -size % 4
        if padding and not _is_binary(data, position, length) and position + padding <= length:
            position += padding
    if not chunks or chunks[0][0] != _JSON_CHUNK:
        corrupt("the first chunk is not JSON")
    binary = next((chunk for kind, chunk in chunks[1:] if kind == _BIN_CHUNK), None)
    return Container(_parse_json(path, chunks[0][1], limits), binary, tuple(warnings))


def _is_binary(data: bytes, position: int, length: int) -> bool:
    """Return whether a binary chunk begins at `position`.

    The length of a chunk should be a multiple of 4, but some writers do not pad their chunks, and others do not include
    the padding in the length.
    """
    if position + 8 > length:
        return False
    size, kind = struct.unpack_from("<II", data, position)
    return bool(kind == _BIN_CHUNK and position + 8 + size <= length)


def _parse_json(path: Path, data: bytes, limits: Limits) -> dict[str, Json]:
    if len(data) > limits.json_bytes:
        message = f"has {len(data):,} bytes of JSON, more than the limit of {limits.json_bytes:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)

    def refuse(constant: str) -> NoReturn:
        raise AssetError(ReasonCode.INVALID_GLTF, f"the JSON contains {constant}, which JSON does not allow", path)

    try:
        values: Json = json.loads(data.rstrip(b"\x00").decode("utf-8-sig"), parse_constant=refuse)
    except RecursionError as error:
        raise AssetError(ReasonCode.INVALID_GLTF, "the JSON is nested too deeply", path) from error
    except ValueError as error:  # invalid UTF-8, invalid JSON, a number of thousands of digits
        message = f"the JSON cannot be parsed ({error}): the file is truncated or corrupt"
        raise AssetError(ReasonCode.CORRUPT_FILE, message, path) from error
    if not isinstance(values, dict):
        raise AssetError(ReasonCode.INVALID_GLTF, "the top level of the JSON must be an object", path)
    _check_depth(path, values, limits.json_depth)
    return values


def _check_depth(path: Path, values: dict[str, Json], limit: int) -> None:
    # Level by level rather than recursively: code that does recurse, such as json.dumps, is safe afterwards.
    level: list[dict[str, Json] | list[Json]] = [values]
    for _ in range(limit):
        nested: list[Json] = []
        for value in level:
            nested.extend(value.values() if isinstance(value, dict) else value)
        level = [value for value in nested if isinstance(value, dict | list)]
        if not level:
            return
    raise AssetError(ReasonCode.INVALID_GLTF, f"the JSON is nested more than {limit} levels deep", path)
