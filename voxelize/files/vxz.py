"""Reads and writes O-Voxels in TRELLIS.2's `.vxz` format, version 0.

A file is `VXZ`, a zero byte, the offset of the payload as a big-endian uint32, a JSON header, and the payload. Voxels
are split into cubic chunks; the octree and the attributes of each are compressed separately. Our headers have one key
more than official ones, `resolution`, which the format does not store otherwise.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from helix4d.core import ConfigError, FormatError, write_bytes
from helix4d.core.documents import parse_json
from helix4d.voxelize.files.streams import LEVELS, checked_level, compress, decompress
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.svo_kernels import CORRUPT, decode_octree, encode_octree
from helix4d.voxelize.ovoxel import MAX_RESOLUTION, OVoxel, morton_codes

MAGIC = b"VXZ\0"
MAX_VOXELS = 1 << 26
MAX_COORDINATE = 1 << 16
MAX_BYTES = 1 << 30
"""Largest size of all attributes together."""
_ATTRIBUTES = (
    ("dual_vertices", 3),
    ("intersected", 1),
    ("base_color", 3),
    ("metallic", 1),
    ("roughness", 1),
    ("alpha", 1),
)
_COORDS_BYTES = 12
"""Bytes that the official `raw_size` counts for the coordinates of a voxel."""


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


def write_vxz(
    target: Path | str | BinaryIO,
    ovoxel: OVoxel,
    compression: str = "zstd",
    level: int | None = None,
    chunk_size: int = 256,
) -> None:
    """Write a `.vxz` file to a path (atomically) or a binary stream; for the arguments see `encode_vxz`."""
    data = encode_vxz(ovoxel, compression, level, chunk_size)
    if isinstance(target, str | Path):
        write_bytes(Path(target), data)
    else:
        target.write(data)


def encode_vxz(
    ovoxel: OVoxel,
    compression: str = "zstd",
    level: int | None = None,
    chunk_size: int = 256,
    interleave: str = "as_is",
) -> bytes:
    """Encode an O-Voxel as the bytes of a `.vxz` file, deterministically.

    Args:
        ovoxel: the O-Voxel; its dual vertices d are stored as trunc(255 d).
        compression: "zstd", "lzma", "deflate" or "none".
        level: level of the compression; None for zstd 3, deflate 6, lzma 9.
        chunk_size: voxels per side of a chunk, a power of two from 2 to 1024.
        interleave: one stream per attribute ("as_is"), per channel ("none"), or for all ("all").

    Raises:
        ConfigError: if an argument is out of range, or voxels are outside the grid or not in Morton order.
    """
    level = checked_level(compression, level)
    if not (2 <= chunk_size <= 1024 and chunk_size & (chunk_size - 1) == 0):
        raise ConfigError(f"chunk_size {chunk_size}: must be a power of two from 2 to 1024")
    if interleave not in ("as_is", "none", "all"):
        raise ConfigError(f"interleave {interleave!r}: expected one of as_is, none, all")
    warm_up()
    levels = chunk_size.bit_length() - 1
    low, high = int(ovoxel.coords.min(initial=0)), int(ovoxel.coords.max(initial=0))
    if low < 0 or high >= ovoxel.resolution:
        raise ConfigError(f"coords range from {low} to {high}: must be between 0 and {ovoxel.resolution - 1}")
    codes = morton_codes(ovoxel.coords)
    if (np.diff(codes) <= 0).any():
        raise ConfigError("voxels are duplicated or not in Morton order")
    columns = _quantized(ovoxel)
    chunk_of = codes >> (3 * levels)
    starts = np.flatnonzero(np.diff(chunk_of, prepend=-1))
    stops = np.append(starts[1:], len(codes))
    corners = ovoxel.coords[starts] // chunk_size
    payload: list[bytes] = []
    chunks = []
    offset = 0
    for number in np.lexsort(corners.T[::-1]):  # chunks in lexicographic order, as in official files
        first, stop = starts[number], stops[number]
        chunk: dict[str, Any] = {"idx": corners[number].tolist()}
        octree = encode_octree(codes[first:stop] & ((1 << 3 * levels) - 1), levels)
        length = 0
        for name, stream in [("svo", octree), *_interleaved(columns, first, stop, interleave)]:
            packed = compress(stream.tobytes(), compression, level)
            chunk[name] = [length, len(packed)]
            length += len(packed)
            payload.append(packed)
        chunk["ptr"] = [offset, length]
        chunks.append(chunk)
        offset += length
    raw_size = len(codes) * (_COORDS_BYTES + sum(channels for _, channels in _ATTRIBUTES))
    header = {
        "num_voxel": len(codes),
        "chunk_size": chunk_size,
        "filter": "none",
        "compression": compression,
        "compression_level": level,
        "raw_size": raw_size,
        "compressed_size": offset,
        "compress_ratio": raw_size / max(offset, 1),
        "attr_interleave": interleave,
        "attr": [list(attribute) for attribute in _ATTRIBUTES],
        "chunks": chunks,
        "resolution": ovoxel.resolution,
    }
    text = json.dumps(header).encode()
    return b"".join([MAGIC, (8 + len(text)).to_bytes(4, "big"), text, *payload])


def read_vxz(source: Path | str | BinaryIO, resolution: int | None = None) -> OVoxel:
    """Read a `.vxz` file or binary stream with `decode_vxz`; errors name the file."""
    if not isinstance(source, str | Path):
        return decode_vxz(source.read(), resolution)
    try:
        return decode_vxz(Path(source).read_bytes(), resolution)
    except FormatError as error:
        raise FormatError(f"{source}: {error}") from error


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


def decode_vxz(data: bytes, resolution: int | None = None) -> OVoxel:
    """Decode the bytes of a `.vxz` file; dual vertices are multiples of 1/255.

    Args:
        data: the whole file.
        resolution: voxels per side; None for the stored value or, without one, the smallest power of two that fits.

    Raises:
        FormatError: if the file is corrupt or truncated, uses a filter, or lacks an attribute.
    """
    info, coords, attributes = decode_vxz_arrays(data)
    for name, channels in _ATTRIBUTES:
        if attributes.get(name, np.empty((0, 0))).shape[1] != channels:
            raise FormatError(f"attribute {name} with {channels} channels is missing: {sorted(attributes)}")
    highest = int(coords.max(initial=0))
    if resolution is None:
        resolution = info.resolution
    if resolution is None:
        resolution = 1 << highest.bit_length()
    if not highest < resolution <= MAX_RESOLUTION:
        raise FormatError(f"coords reach {highest}, but the resolution is {resolution} (at most {MAX_RESOLUTION})")
    bits = attributes["intersected"]
    if int(bits.max(initial=0)) > 7:
        raise FormatError(f"intersected contains {int(bits.max())}: must be at most 7 (three flags)")
    return OVoxel(
        resolution,
        coords,
        attributes["dual_vertices"].astype(np.float32) / np.float32(255),
        (bits >> np.arange(3, dtype=np.uint8)) & 1 != 0,
        *(np.ascontiguousarray(attributes[name]) for name, _ in _ATTRIBUTES[2:]),
    )


def decode_vxz_arrays(data: bytes) -> tuple[VxzInfo, np.ndarray, dict[str, np.ndarray]]:
    """Decode the header, (N, 3) int32 coords in Morton order, and each attribute (N, C) uint8 as stored.

    Raises:
        FormatError: as in `decode_vxz`, except that any set of attributes is accepted.
    """
    info = read_vxz_info(data)
    levels = info.chunk_size.bit_length() - 1
    corners = np.array([chunk["idx"] for chunk in info.chunks], np.int64).reshape(-1, 3)
    order = np.argsort(morton_codes(corners), kind="stable")
    total = sum(channels for _, channels in info.attributes)
    # The operating system provides memory only as far as the streams fill it, so a wrong `num_voxel` does no harm.
    codes = np.empty(info.voxels, np.int64)
    warm_up()
    columns = np.empty((info.voxels, total), np.uint8)
    before = -1
    used = 0
    for number in order:
        chunk = info.chunks[number]
        place = int(morton_codes(corners[number : number + 1])[0])
        if place == before:
            raise FormatError(f"two chunks have the index {chunk['idx']}")
        before = place
        offset, length = chunk["ptr"]
        begin = info.payload + offset
        if begin + length > len(data):
            raise FormatError(f"a chunk ends at byte {begin + length}, the file at {len(data)}: it is truncated")
        block = data[begin : begin + length]
        room = codes[used:]
        octree = np.frombuffer(_stream(info, chunk, "svo", block, levels * len(room)), np.uint8)
        count = decode_octree(octree, levels, room)
        if count == CORRUPT:
            raise FormatError(f"the octree of chunk {chunk['idx']} is corrupt or larger than num_voxel allows")
        room[:count] |= place << (3 * levels)
        _fill(info, chunk, block, columns[used : used + count])
        used += count
    if used != info.voxels:
        raise FormatError(f"the chunks contain {used} voxels, the header declares {info.voxels}")
    attributes = {}
    column = 0
    for name, channels in info.attributes:
        attributes[name] = columns[:, column : column + channels]
        column += channels
    return info, _coords(codes), attributes


def _fill(info: VxzInfo, chunk: dict[str, Any], block: bytes, columns: np.ndarray) -> None:
    """Read the attributes of a chunk into its (N, sum of channels) uint8 rows."""
    count, total = columns.shape
    if info.interleave == "as_is":
        widths = list(info.attributes)
    elif info.interleave == "none":
        widths = [(f"attr_{channel}", 1) for channel in range(total)]
    else:
        widths = [("attr", total)]
    column = 0
    for name, width in widths:
        stream = _stream(info, chunk, name, block, count * width)
        if len(stream) != count * width:
            raise FormatError(f"{name} of chunk {chunk['idx']}: {len(stream)} bytes, expected {count * width}")
        columns[:, column : column + width] = np.frombuffer(stream, np.uint8).reshape(count, width)
        column += width


def _stream(info: VxzInfo, chunk: dict[str, Any], name: str, block: bytes, most: int) -> bytes:
    extent: Any = chunk.get(name)
    if not _is_extent(extent):
        raise FormatError(f"chunk {chunk['idx']} has no valid [offset, length] for {name}: {extent!r}")
    offset, length = extent
    if offset + length > len(block):
        raise FormatError(f"{name} of chunk {chunk['idx']} ends at byte {offset + length} of {len(block)}")
    return decompress(block[offset : offset + length], info.compression, info.level, most)


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
        if not isinstance(chunk, dict) or not _is_extent(chunk.get("ptr")):
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


def _is_extent(value: Any) -> bool:
    return isinstance(value, list) and len(value) == 2 and all(_is_count(number, 1 << 40) for number in value)


def _quantized(ovoxel: OVoxel) -> np.ndarray:
    """(N, 10) uint8: all attributes in the order of _ATTRIBUTES."""
    dual = np.clip(ovoxel.dual_vertices * np.float32(255), 0, 255).astype(np.uint8)
    flags = ovoxel.intersected @ np.array([1, 2, 4], np.uint8)
    others = (ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha)
    return np.concatenate([dual, flags.astype(np.uint8)[:, None], *others], axis=1)


def _interleaved(columns: np.ndarray, first: int, stop: int, interleave: str) -> list[tuple[str, np.ndarray]]:
    rows = columns[first:stop]
    if interleave == "all":
        return [("attr", rows)]
    if interleave == "none":
        return [(f"attr_{channel}", rows[:, channel]) for channel in range(rows.shape[1])]
    streams = []
    column = 0
    for name, channels in _ATTRIBUTES:
        streams.append((name, rows[:, column : column + channels]))
        column += channels
    return streams


def _coords(codes: np.ndarray) -> np.ndarray:
    """(N, 3) int32 coords of (N,) int64 Morton codes."""
    return np.stack([_gathered(codes >> 2), _gathered(codes >> 1), _gathered(codes)], axis=1).astype(np.int32)


def _gathered(values: np.ndarray) -> np.ndarray:
    """Move bit 3k of each value to bit k."""
    values = values & 0x1249249249249249
    for shift, mask in (
        (2, 0x10C30C30C30C30C3),
        (4, 0x100F00F00F00F00F),
        (8, 0x1F0000FF0000FF),
        (16, 0x1F00000000FFFF),
        (32, 0x1FFFFF),
    ):
        values = (values | (values >> shift)) & mask
    return values
