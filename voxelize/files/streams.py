"""The compressions of `.vxz`; decompression stops at a bound given by the caller.

zstandard is imported on first use: files of the other compressions need no package.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any

import numpy as np

from helix4d.core import ConfigError, FormatError
from helix4d.core.extras import missing_package

LEVELS = {"zstd": 3, "deflate": 6, "lzma": 9, "none": 0}
"""Compression -> default level."""

_RANGES = {"zstd": (1, 22), "deflate": (0, 9), "lzma": (0, 9), "none": (0, 0)}
_RAW_WINDOW = -15
_ZSTD_WINDOW_BYTES = 1 << 27


def checked_level(compression: str, level: int | None) -> int:
    """Check a compression level; None is the default.

    Raises:
        ConfigError: if the compression is unknown or the level is out of range.
    """
    if compression not in LEVELS:
        raise ConfigError(f"compression {compression!r}: expected one of {', '.join(LEVELS)}")
    if level is None:
        return LEVELS[compression]
    low, high = _RANGES[compression]
    if not low <= level <= high:
        raise ConfigError(f"{compression} level {level}: must be between {low} and {high}")
    return level


def compress(data: bytes, compression: str, level: int) -> bytes:
    """Compress with raw deflate, raw LZMA2, zstd without checksum, or not at all.

    Raises:
        ConfigError: if the compression needs a package that is not installed.
    """
    if compression == "zstd":
        return _zstandard().ZstdCompressor(level=level, write_checksum=False).compress(data)
    if compression == "deflate":
        packer = zlib.compressobj(level, zlib.DEFLATED, _RAW_WINDOW)
        return packer.compress(data) + packer.flush()
    if compression == "lzma":
        return lzma.compress(data, format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
    return data


def decompress(data: memoryview, compression: str, level: int, most: int) -> np.ndarray:
    """Undo `compress`, for a size that is not known beforehand: at most `most` bytes. Returns (K,) uint8.

    Raises:
        FormatError: if the data is corrupt, truncated, or larger than that.
        ConfigError: if the compression needs a package that is not installed.
    """
    if compression == "zstd":
        declared = _zstd_size(data, most)
        # The operating system provides memory only as far as the stream fills it, so a wrong bound does no harm.
        buffer = np.empty(most if declared < 0 else declared, np.uint8)
        return buffer[: _read_zstd(data, buffer, declared)]
    return np.frombuffer(_unpacked(data, compression, level, most), np.uint8)


def decompress_into(data: memoryview, compression: str, level: int, target: np.ndarray) -> int:
    """Undo `compress` into the start of (K,) uint8 and return the number of bytes; for errors see `decompress`."""
    if compression == "zstd":
        return _read_zstd(data, target, _zstd_size(data, len(target)))
    found = _unpacked(data, compression, level, len(target))
    target[: len(found)] = np.frombuffer(found, np.uint8)
    return len(found)


def _unpacked(data: memoryview, compression: str, level: int, most: int) -> bytes | memoryview:
    """Undo every compression but zstd, in memory of their own."""
    found: bytes | memoryview = data
    try:
        if compression == "deflate":
            inflater = zlib.decompressobj(_RAW_WINDOW)
            found = inflater.decompress(data, most + 1)
            if len(found) <= most and not inflater.eof:
                raise FormatError("a deflate stream is truncated")
        elif compression == "lzma":
            unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
            found = unpacker.decompress(data, most + 1)
            if len(found) <= most and not unpacker.eof:
                raise FormatError("an lzma stream is truncated")
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise FormatError(f"a {compression} stream is corrupt ({error})") from error
    _refuse_larger(len(found), most, compression)
    return found


def _refuse_larger(size: int, most: int, compression: str) -> None:
    if size > most:
        raise FormatError(f"a {compression} stream decompresses to more than the {most} bytes that the header allows")


def _zstd_size(data: memoryview, most: int) -> int:
    """Return the size that a zstd frame declares, at most `most`; -1 if it declares none."""
    zstandard = _zstandard()
    try:
        declared = int(zstandard.frame_content_size(data))
    except zstandard.ZstdError as error:
        raise FormatError(f"a zstd stream is corrupt ({error})") from error
    _refuse_larger(declared, most, "zstd")
    return declared


def _read_zstd(data: memoryview, target: np.ndarray, declared: int) -> int:
    """Decompress a zstd frame into (K,) uint8, without a window of its own if the frame declares its size."""
    zstandard = _zstandard()
    try:
        reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(data)
        size = int(reader.readinto(target)) if len(target) else 0
        larger = size == len(target) and reader.read(1) != b""
    except zstandard.ZstdError as error:
        raise FormatError(f"a zstd stream is corrupt ({error})") from error
    _refuse_larger(size + larger, len(target), "zstd")
    if size < declared:
        raise FormatError(f"a zstd stream is truncated (has {size} of {declared} bytes)")
    return size


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise missing_package("zstd, the default compression of .vxz files", "zstandard") from error
    return zstandard


def _lzma_filters(level: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": level}]
