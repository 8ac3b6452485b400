"""Reads and checks the header of a `.vxz` file: the JSON that describes its chunks and attributes."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.core import FormatError
from helix4d.core.documents import parse_json
from helix4d.voxelize.files.streams import LEVELS

MAGIC = b"VXZ\0"
MAX_VOXELS = 1 << 26
MAX_COORDINATE = 1 << 16
MAX_BYTES = 1 << 30
"""Largest size of all attributes together."""


@dataclass(frozen=True)
class VxzInfo:
    """The header of a `.vxz` file.

    Attributes:
        voxels: number of voxels.
        resolution: voxels per side; None if not stored.
        chunk_size: voxels per side of a chunk.
        compression: "zstd", "lzma", "deflate" or "none".
        level: level of the compression.
        interleave: "as_is", "none" or "all".
        attributes: name and number of channels of each attribute.
        chunks: the header's entries for the chunks.
        payload: offset of the payload in the file.
    """

    voxels: int
    resolution: int | None
    chunk_size: int
    compression: str
    level: int
    interleave: str
    attributes: tuple[tuple[str, int], ...]
    chunks: tuple[dict[str, Any], ...]
    payload: int


def read_vxz_info(source: Path | str | bytes) -> VxzInfo:
    """Read only the header of a `.vxz` file.

    Raises:
        FormatError: if it is not a supported `.vxz` header.
    """
    if isinstance(source, bytes):
        return _parsed_header(source[:8], source[8 : int.from_bytes(source[4:8], "big")])
    with open(source, "rb") as stream:
        start = stream.read(8)
        if start[:4] != MAGIC:
            raise FormatError(f"{source}: not a .vxz file (starts with {start[:4]!r})")
        return _parsed_header(start, stream.read(max(int.from_bytes(start[4:8], "big") - 8, 0)))


def _parsed_header(start: bytes, text: bytes) -> VxzInfo:
    if len(start) < 8 or start[:4] != MAGIC:
        raise FormatError(f"not a .vxz file (starts with {start[:4]!r})")
    payload = int.from_bytes(start[4:8], "big")
    if payload < 8 or len(text) != payload - 8:
        raise FormatError(f"the header ends at byte {payload}, the file at {8 + len(text)}: it is truncated")
    header: Any = parse_json(text, "the header", "file")
    if not isinstance(header, dict):
        raise FormatError(f"the header is a {type(header).__name__}, not an object")
    filtered = header.get("filter", "none")
    if filtered != "none":
        raise FormatError(f"filter {filtered!r} is not supported: expected 'none'")
    _require(header.get("compression") in tuple(LEVELS), header, "compression")
    _require(header.get("attr_interleave") in ("as_is", "none", "all"), header, "attr_interleave")
    _require(_is_count(header.get("num_voxel"), MAX_VOXELS), header, "num_voxel")
    size: Any = header.get("chunk_size")
    _require(_is_count(size, MAX_COORDINATE) and size >= 2 and size & (size - 1) == 0, header, "chunk_size")
    level: Any = header.get("compression_level", LEVELS[header["compression"]])
    _require(_is_count(level, 22) and (header["compression"] != "lzma" or level <= 9), header, "compression_level")
    resolution = header.get("resolution")
    _require(resolution is None or (_is_count(resolution, MAX_COORDINATE) and resolution > 0), header, "resolution")
    attributes: Any = header.get("attr")
    chunks: Any = header.get("chunks")
    _require(isinstance(attributes, list) and len(attributes) <= 64, header, "attr")
    for attribute in attributes:
        well_formed = isinstance(attribute, list) and len(attribute) == 2 and isinstance(attribute[0], str)
        _require(well_formed and _is_count(attribute[1], 64) and attribute[1] > 0, header, "attr")
    _require(len({name for name, _ in attributes}) == len(attributes), header, "attr")
    _require(header["num_voxel"] * sum(channels for _, channels in attributes) <= MAX_BYTES, header, "attr")
    _require(isinstance(chunks, list), header, "chunks")
    for chunk in chunks:
        if not isinstance(chunk, dict) or not is_extent(chunk.get("ptr")):
            raise FormatError(f"a chunk has no valid ptr [offset, length]: {str(chunk)[:200]}")
        idx = chunk.get("idx")
        if not (isinstance(idx, list) and len(idx) == 3 and all(_is_count(i, MAX_COORDINATE // size - 1) for i in idx)):
            raise FormatError(f"a chunk has idx {idx!r}: expected three integers, voxels below {MAX_COORDINATE}")
    return VxzInfo(
        header["num_voxel"],
        resolution,
        size,
        header["compression"],
        level,
        header["attr_interleave"],
        tuple((name, channels) for name, channels in attributes),
        tuple(chunks),
        payload,
    )


def _require(condition: bool, header: dict[str, Any], key: str) -> None:
    if not condition:
        raise FormatError(f"the header has {key} {str(header.get(key))[:200]!r}, which is invalid or not supported")


def _is_count(value: Any, most: int) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= most


def is_extent(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(number, 1 << 40) for number in value)
