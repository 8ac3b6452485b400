"""The compressions of `.vxz`; decompression stops at a bound given by the caller.

zstandard is imported on first use: files of the other compressions need no package.
"""

from __future__ import annotations

import lzma
import zlib
from typing import Any

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


def decompress(data: bytes, compression: str, level: int, most: int) -> bytes:
    """Undo `compress`, for at most `most` bytes of output.

    Raises:
        FormatError: if the data is corrupt, truncated, or larger than that.
        ConfigError: if the compression needs a package that is not installed.
    """
    try:
        if compression == "zstd":
            found = _decompress_zstd(data, most)
        elif compression == "deflate":
            inflater = zlib.decompressobj(_RAW_WINDOW)
            found = inflater.decompress(data, most + 1)
            if len(found) <= most and not inflater.eof:
                raise FormatError("a deflate stream is truncated")
        elif compression == "lzma":
            unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
            found = unpacker.decompress(data, most + 1)
            if len(found) <= most and not unpacker.eof:
                raise FormatError("an lzma stream is truncated")
        else:
            found = data
    except (zlib.error, lzma.LZMAError, EOFError) as error:
        raise FormatError(f"a {compression} stream is corrupt ({error})") from error
    if len(found) > most:
        raise FormatError(f"a {compression} stream decompresses to more than the {most} bytes that the header allows")
    return found


def _decompress_zstd(data: bytes, most: int) -> bytes:
    zstandard = _zstandard()
    try:
        found: bytes = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(data).read(most + 1)
        declared = zstandard.frame_content_size(data)
    except zstandard.ZstdError as error:
        raise FormatError(f"a zstd stream is corrupt ({error})") from error
    if len(found) < declared and len(found) <= most:
        raise FormatError(f"a zstd stream is truncated (has {len(found)} of {declared} bytes)")
    return found


def _zstandard() -> Any:
    try:
        import zstandard
    except ImportError as error:
        raise missing_package("zstd, the default compression of .vxz files", "zstandard") from error
    return zstandard


def _lzma_filters(level: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": level}]
