"""Reads and writes O-Voxels in TRELLIS.2's `.vxz` format, version 0.

A file is `VXZ`, a zero byte, the offset of the payload as a big-endian uint32, a JSON header, and the payload. Voxels
are split into cubic chunks; the octree and the attributes of each are compressed separately. Our headers have one key
more than official ones, `resolution`, which the format does not store otherwise.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import Any, BinaryIO, Literal

import numpy as np

from helix4d.core import ConfigError, FormatError, write_bytes
from helix4d.voxelize.files.header import MAGIC, VxzInfo, is_extent, read_vxz_info
from helix4d.voxelize.files.streams import checked_level, compress, decompress, decompress_into
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.svo_kernels import CORRUPT, decode_octree, encode_octree, unpack_geometry
from helix4d.voxelize.ovoxel import MAX_RESOLUTION, OVoxel, morton_codes

_GEOMETRY = (("dual_vertices", 3), ("intersected", 1))
_MATERIAL = (("base_color", 3), ("metallic", 1), ("roughness", 1), ("alpha", 1))
_ATTRIBUTES = (*_GEOMETRY, *_MATERIAL)
_PARTS = {
    "all": (_ATTRIBUTES, slice(0, 10)),
    "dual_grid": ((("vertices", 3), ("intersected", 1)), slice(0, 4)),
    "pbr": (_MATERIAL, slice(4, 10)),
}
"""Part of an O-Voxel -> its attributes, as TRELLIS.2's loaders name them, and their columns in the full table."""
_CENTER = 0.5
_PLAIN = {"base_color": 255, "metallic": 255, "roughness": 255, "alpha": 255}
"""The material of files that have none: glTF's defaults, as for meshes without a material."""
_COORDS_BYTES = 12
"""Bytes that the official `raw_size` counts for the coordinates of a voxel."""


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
    part: Literal["all", "dual_grid", "pbr"] = "all",
) -> bytes:
    """Encode an O-Voxel as the bytes of a `.vxz` file, deterministically.

    Args:
        ovoxel: the O-Voxel; its dual vertices d are stored as trunc(255 d).
        compression: "zstd", "lzma", "deflate" or "none".
        level: level of the compression; None for zstd 3, deflate 6, lzma 9.
        chunk_size: voxels per side of a chunk, a power of two from 2 to 1024.
        interleave: one stream per attribute ("as_is"), per channel ("none"), or for all ("all").
        part: everything, or one of the two parts that TRELLIS.2's training data stores in separate files: the geometry
            ("dual_grid", whose dual vertices are called `vertices`) or the material ("pbr").

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
    attributes, selected = _PARTS[part]
    columns = _quantized(ovoxel)[:, selected]
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
        for name, stream in [("svo", octree), *_interleaved(columns[first:stop], interleave, attributes)]:
            packed = compress(stream.tobytes(), compression, level)
            chunk[name] = [length, len(packed)]
            length += len(packed)
            payload.append(packed)
        chunk["ptr"] = [offset, length]
        chunks.append(chunk)
        offset += length
    raw_size = len(codes) * (_COORDS_BYTES + sum(channels for _, channels in attributes))
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
        "attr": [list(attribute) for attribute in attributes],
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


def decode_vxz(data: bytes, resolution: int | None = None) -> OVoxel:
    """Decode the bytes of a `.vxz` file; dual vertices are multiples of 1/255.

    Files of TRELLIS.2's training data hold half of an O-Voxel: dual grids have no material and get glTF's defaults
    (white, metallic 1, roughness 1, opaque); PBR voxels have no geometry and get dual vertices at their centers and no
    crossed edges. `read_vxz_info` lists the attributes of a file. "vertices" is read as "dual_vertices"; attributes of
    other names are ignored.

    Args:
        data: the whole file.
        resolution: voxels per side; None for the stored value or, without one, the smallest power of two that fits.

    Raises:
        FormatError: if the file is corrupt or truncated, uses a filter, or lacks an attribute of either half.
    """
    info, coords, attributes = decode_vxz_arrays(data)
    if "vertices" in attributes and "dual_vertices" not in attributes:
        attributes["dual_vertices"] = attributes.pop("vertices")
    present = [half for half in (_GEOMETRY, _MATERIAL) if any(name in attributes for name, _ in half)]
    for name, channels in [attribute for half in present or (_ATTRIBUTES,) for attribute in half]:
        if attributes.get(name, np.empty((0, 0))).shape[1] != channels:
            raise FormatError(f"attribute {name} with {channels} channels is missing: {sorted(attributes)}")
    highest = int(coords.max(initial=0))
    if resolution is None:
        resolution = info.resolution
    if resolution is None:
        resolution = 1 << highest.bit_length()
    if not highest < resolution <= MAX_RESOLUTION:
        raise FormatError(f"coords reach {highest}, but the resolution is {resolution} (at most {MAX_RESOLUTION})")
    materials = [
        attributes[name] if name in attributes else np.full((len(coords), channels), _PLAIN[name], np.uint8)
        for name, channels in _MATERIAL
    ]
    return OVoxel(resolution, coords, *_geometry(attributes, len(coords)), *materials)


def _geometry(attributes: dict[str, np.ndarray], count: int) -> tuple[np.ndarray, np.ndarray]:
    """Return (N, 3) float32 dual vertices and (N, 3) bool flags of the stored bytes, or of no geometry."""
    if "dual_vertices" not in attributes:
        return np.full((count, 3), _CENTER, np.float32), np.zeros((count, 3), np.bool_)
    dual_vertices, intersected = np.empty((count, 3), np.float32), np.empty((count, 3), np.bool_)
    bits = attributes["intersected"]
    flat = [array.reshape(-1) for array in (attributes["dual_vertices"], bits, dual_vertices, intersected)]
    if unpack_geometry(*flat) > 7:
        raise FormatError(f"intersected contains {int(bits.max())}: must be at most 7 (three flags)")
    return dual_vertices, intersected


def decode_vxz_arrays(data: bytes) -> tuple[VxzInfo, np.ndarray, dict[str, np.ndarray]]:
    """Decode the header, (N, 3) int32 coords in Morton order, and each attribute (N, C) uint8 as stored.

    Raises:
        FormatError: as in `decode_vxz`, except that any set of attributes is accepted.
    """
    info = read_vxz_info(data)
    warm_up()
    levels = info.chunk_size.bit_length() - 1
    corners = np.array([chunk["idx"] for chunk in info.chunks], np.int64).reshape(-1, 3)
    places = morton_codes(corners)
    order = np.argsort(places, kind="stable")
    # The operating system provides memory only as far as the streams fill it, so a wrong `num_voxel` does no harm.
    coords = np.empty((info.voxels, 3), np.int32)
    attributes = {name: np.empty((info.voxels, channels), np.uint8) for name, channels in info.attributes}
    for first, second in pairwise(order):
        if places[first] == places[second]:
            raise FormatError(f"two chunks have the index {info.chunks[first]['idx']}")
    used = 0
    for number in order:
        chunk = info.chunks[number]
        offset, length = chunk["ptr"]
        begin = info.payload + offset
        if begin + length > len(data):
            raise FormatError(f"a chunk ends at byte {begin + length}, the file at {len(data)}: it is truncated")
        block = memoryview(data)[begin : begin + length]
        room = coords[used:]
        stream = _stream(chunk, "svo", block)
        octree = decompress(stream, info.compression, info.level, levels * len(room))
        count = decode_octree(octree, levels, corners[number] * info.chunk_size, room)
        if count == CORRUPT:
            raise FormatError(f"the octree of chunk {chunk['idx']} is corrupt or larger than num_voxel allows")
        rows = {name: array[used : used + count] for name, array in attributes.items()}
        _fill(info, chunk, block, rows)
        used += count
    if used != info.voxels:
        raise FormatError(f"the chunks contain {used} voxels, the header declares {info.voxels}")
    return info, coords, attributes


def _fill(info: VxzInfo, chunk: dict[str, Any], block: memoryview, rows: dict[str, np.ndarray]) -> None:
    """Read the attributes of a chunk into the rows (N, C) uint8 of each."""
    if info.interleave == "as_is":
        for name, target in rows.items():
            _read_stream(info, chunk, name, block, target)
        return
    count = len(next(iter(rows.values()), ()))
    if info.interleave == "all":
        joined = np.empty((count, sum(channels for _, channels in info.attributes)), np.uint8)
        _read_stream(info, chunk, "attr", block, joined)
        for target, columns in zip(rows.values(), _columns(info.attributes), strict=True):
            target[:] = joined[:, columns]
        return
    channel = np.empty(count, np.uint8)
    for (name, target), columns in zip(rows.items(), _columns(info.attributes), strict=True):
        for number in range(target.shape[1]):
            official, former = f"{name}_{number}", f"attr_{columns.start + number}"  # former: ours until 0.3.0
            key = former if former in chunk and official not in chunk else official
            _read_stream(info, chunk, key, block, channel)
            target[:, number] = channel


def _read_stream(info: VxzInfo, chunk: dict[str, Any], name: str, block: memoryview, target: np.ndarray) -> None:
    """Fill a C-contiguous uint8 array with a stream of exactly its size."""
    stream = _stream(chunk, name, block)
    found = decompress_into(stream, info.compression, info.level, target.reshape(-1))
    if found != target.size:
        raise FormatError(f"{name} of chunk {chunk['idx']}: {found} bytes, expected {target.size}")


def _stream(chunk: dict[str, Any], name: str, block: memoryview) -> memoryview:
    """Return the compressed bytes of a stream."""
    extent: Any = chunk.get(name)
    if not is_extent(extent):
        raise FormatError(f"chunk {chunk['idx']} has no valid [offset, length] for {name}: {extent!r}")
    offset, length = extent
    if offset + length > len(block):
        raise FormatError(f"{name} of chunk {chunk['idx']} ends at byte {offset + length} of {len(block)}")
    return block[offset : offset + length]


def _quantized(ovoxel: OVoxel) -> np.ndarray:
    """(N, 10) uint8: all attributes in the order of _ATTRIBUTES."""
    dual = np.clip(ovoxel.dual_vertices * np.float32(255), 0, 255).astype(np.uint8)
    flags = ovoxel.intersected @ np.array([1, 2, 4], np.uint8)
    others = (ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha)
    return np.concatenate([dual, flags.astype(np.uint8)[:, None], *others], axis=1)


def _interleaved(
    rows: np.ndarray, interleave: str, attributes: Sequence[tuple[str, int]]
) -> list[tuple[str, np.ndarray]]:
    """Return name and content of the attribute streams: uint8, with a column per channel."""
    if interleave == "all":
        return [("attr", rows)]
    streams = [(name, rows[:, columns]) for (name, _), columns in zip(attributes, _columns(attributes), strict=True)]
    if interleave == "as_is":
        return streams
    return [(f"{name}_{number}", channel) for name, part in streams for number, channel in enumerate(part.T)]


def _columns(attributes: Sequence[tuple[str, int]]) -> list[slice]:
    """Return the columns of each attribute in a table of all."""
    stops = list(accumulate(channels for _, channels in attributes))
    return [slice(stop - channels, stop) for stop, (_, channels) in zip(stops, attributes, strict=True)]
