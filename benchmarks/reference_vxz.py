"""TRELLIS.2's `.vxz` reader and writer, step by step: the baseline of vxz.py.

The steps are those of its `o_voxel.io`, written anew: bytes are sliced per chunk and per stream, each stream has its
own decompressor, torch concatenates attributes and chunks, and the two C++ functions (octree, Morton codes) are loops
compiled by numba with the same work per voxel. For that reason it shares no code with `helix4d.voxelize`. Chunks are
handled one after another; the original starts a thread for each, which changes wall-clock time but not CPU time.
"""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import torch
import zstandard
from numba import njit

OFFICIAL_LEVEL = 22
"""The level of zstd that the official writer uses by default."""
_LOWEST = np.array([0, *((mask & -mask).bit_length() - 1 for mask in range(1, 256))])
"""(256,) the lowest bit of each mask of children."""


def reference_read(data: bytes) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    """(N, 3) int32 coords and (N, C) uint8 attributes of a zstd file with one stream per attribute."""
    start = int.from_bytes(data[4:8], "big")
    header = json.loads(data[8:start].decode())
    payload = data[start:]
    depth = header["chunk_size"].bit_length() - 1
    chunks = [_read_chunk(payload, chunk, depth, header["attr"]) for chunk in header["chunks"]]
    corners = [torch.tensor([chunk["idx"]]).int() * header["chunk_size"] for chunk in header["chunks"]]
    coords = torch.cat([coords + corner for corner, (coords, _) in zip(corners, chunks, strict=True)])
    return coords, {name: torch.cat([found[name] for _, found in chunks]) for name, _ in header["attr"]}


def _read_chunk(
    payload: bytes, chunk: dict[str, Any], depth: int, attributes: list[list[Any]]
) -> tuple[torch.Tensor, dict[str, torch.Tensor]]:
    offset, length = chunk["ptr"]
    block = payload[offset : offset + length]
    streams = {}
    for name, extent in chunk.items():
        if name not in ("idx", "ptr"):
            packed = block[extent[0] : extent[0] + extent[1]]
            streams[name] = np.frombuffer(zstandard.ZstdDecompressor().decompress(packed), np.uint8)
    codes = torch.from_numpy(_octree_codes(torch.tensor(streams["svo"]).numpy(), depth)).int()
    coords = torch.stack([torch.from_numpy(axis) for axis in _coords(codes.numpy())], dim=-1)
    table = torch.cat([torch.tensor(streams[name].reshape(-1, channels)) for name, channels in attributes], dim=1)
    found, column = {}, 0
    for name, channels in attributes:
        found[name] = table[:, column : column + channels]
        column += channels
    return coords, found


def reference_write(
    coords: torch.Tensor, attributes: dict[str, torch.Tensor], level: int, chunk_size: int = 256
) -> bytes:
    """The bytes of a zstd file with one stream per attribute, of (N, 3) int32 coords and (N, C) uint8 attributes."""
    depth = chunk_size.bit_length() - 1
    corners, numbers = torch.unique(coords // chunk_size, dim=0, return_inverse=True)
    local = coords % chunk_size
    payload, chunks = b"", []
    for number, corner in enumerate(corners.tolist()):
        mask = numbers == number
        codes = torch.from_numpy(_codes(local[mask].numpy()))
        order = codes.argsort()
        table = torch.cat([values[mask][order] for values in attributes.values()], dim=1).numpy()
        streams, column = {"svo": _octree(codes[order].numpy(), depth)}, 0
        for name, values in attributes.items():
            streams[name] = table[:, column : column + values.shape[1]]
            column += values.shape[1]
        chunk: dict[str, Any] = {"idx": corner}
        block = b""
        for name, stream in streams.items():
            packed = zstandard.ZstdCompressor(level=level, write_checksum=False, threads=-1).compress(stream.tobytes())
            chunk[name] = [len(block), len(packed)]
            block += packed
        chunk["ptr"] = [len(payload), len(block)]
        payload += block
        chunks.append(chunk)
    header = {
        "num_voxel": len(coords),
        "chunk_size": chunk_size,
        "filter": "none",
        "compression": "zstd",
        "compression_level": level,
        "attr_interleave": "as_is",
        "attr": [[name, values.shape[1]] for name, values in attributes.items()],
        "chunks": chunks,
    }
    text = json.dumps(header).encode()
    return b"VXZ\0" + (8 + len(text)).to_bytes(4, "big") + text + payload


@njit(cache=True, error_model="numpy")
def _octree_codes(octree, depth):
    """(N,) int32 Morton codes. They are appended to a vector that doubles, and copied at the end."""
    codes = np.empty(16, np.int32)
    count, used, level = 0, 1, 0
    prefix = np.zeros(depth, np.int64)  # codes of the nodes on the way to the current one
    rest = np.zeros(depth, np.int64)  # children still to visit
    rest[0] = octree[0]
    while level >= 0:
        if level == depth - 1:
            if count + 8 > len(codes):
                longer = np.empty(2 * len(codes), np.int32)
                longer[:count] = codes[:count]
                codes = longer
            for leaf in range(8):
                codes[count] = prefix[level] << 3 | leaf
                count += (rest[level] >> leaf) & 1
            level -= 1
        elif rest[level] == 0:
            level -= 1
        else:
            child = _LOWEST[rest[level]]
            rest[level] &= rest[level] - 1
            prefix[level + 1] = prefix[level] << 3 | child
            level += 1
            rest[level] = octree[used]
            used += 1
    return codes[:count].copy()


@njit(cache=True, error_model="numpy")
def _octree(codes, depth):
    """(K,) uint8 octree of ascending (N,) int32 Morton codes; nodes are appended to a vector that doubles."""
    octree = np.zeros(16, np.uint8)
    used = 1
    path, digits, place = np.zeros(depth, np.uint32), np.zeros(depth, np.uint32), np.zeros(depth, np.int64)
    for n in range(len(codes)):
        for level in range(depth):
            digits[level] = (np.uint32(codes[n]) >> np.uint32(3 * (depth - 1 - level))) & np.uint32(7)
        first = 0
        while n > 0 and first < depth - 1 and digits[first] == path[first]:
            first += 1
        for level in range(first, depth):
            if level > first:
                if used == len(octree):
                    longer = np.zeros(2 * used, np.uint8)
                    longer[:used] = octree
                    octree = longer
                place[level] = used
                used += 1
            octree[place[level]] |= np.uint8(1 << digits[level])
            path[level] = digits[level]
    return octree[:used].copy()


@njit(cache=True, error_model="numpy")
def _coords(codes):
    """Three (N,) int32 arrays of (N,) int32 Morton codes."""
    x, y, z = np.empty_like(codes), np.empty_like(codes), np.empty_like(codes)
    for shift, axis in ((2, x), (1, y), (0, z)):
        for n in range(len(codes)):
            axis[n] = _gathered(codes[n] >> shift)
    return x, y, z


@njit(cache=True, error_model="numpy")
def _codes(coords):
    codes = np.empty(len(coords), np.int32)
    for n in range(len(coords)):
        codes[n] = _spread(coords[n, 0]) << 2 | _spread(coords[n, 1]) << 1 | _spread(coords[n, 2])
    return codes


@njit(cache=True, error_model="numpy")
def _gathered(value):
    """Move bit 3k of a 32-bit code to bit k."""
    value = np.int32(value & 0x09249249)
    value = np.int32((value | (value >> 2)) & 0x030C30C3)
    value = np.int32((value | (value >> 4)) & 0x0300F00F)
    value = np.int32((value | (value >> 8)) & 0x030000FF)
    return np.int32((value | (value >> 16)) & 0x3FF)


@njit(cache=True, error_model="numpy")
def _spread(value):
    """Move bit k of a value below 1024 to bit 3k."""
    value = (value | (value << 16)) & 0x030000FF
    value = (value | (value << 8)) & 0x0300F00F
    value = (value | (value << 4)) & 0x030C30C3
    return (value | (value << 2)) & 0x09249249
