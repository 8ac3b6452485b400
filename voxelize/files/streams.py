"""The compressions of `.vxz`, with decompression that stops at a bound given by the caller."""

from __future__ import annotations

import lzma
import zlib

import zstandard

from helix4d.core import ConfigError, FormatError

LEVELS = {"zstd": 3, "deflate": 6, "lzma": 9, "none": 0}
"""The compressions and the level that each has by default."""

_RANGES = {"zstd": (1, 22), "deflate": (0, 9), "lzma": (0, 9), "none": (0, 0)}
_RAW_WINDOW = -15
_ZSTD_WINDOW_BYTES = 1 << 27


def checked_level(compression: str, level: int | None) -> int:
    """The level to use, the default for None.

    Raises:
        ConfigError: for an unknown compression or a level that it does not have.
    """
    if compression not in LEVELS:
        raise ConfigError(f"compression {compression!r} is not one of {', '.join(LEVELS)}")
    if level is None:
        return LEVELS[compression]
    low, high = _RANGES[compression]
    if not low <= level <= high:
        raise ConfigError(f"{compression} level {level} is not between {low} and {high}")
    return level


def compress(data: bytes, compression: str, level: int) -> bytes:
    """Raw deflate, raw LZMA2, zstd without checksum, or the data itself."""
    if compression == "zstd":
        return zstandard.ZstdCompressor(level=level, write_checksum=False).compress(data)
    if compression == "deflate":
        packer = zlib.compressobj(level, zlib.DEFLATED, _RAW_WINDOW)
        return packer.compress(data) + packer.flush()
    if compression == "lzma":
        return lzma.compress(data, format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
    return data


def decompress(data: bytes, compression: str, level: int, most: int) -> bytes:
    """What `compress` was given, if that is at most `most` bytes.

    Raises:
        FormatError: if the data is corrupt, truncated or larger than that.
    """
    try:
        if compression == "zstd":
            reader = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).stream_reader(data)
            found = reader.read(most + 1)
            if len(found) <= most:
                _require_frame_end(data, len(found))
        elif compression == "deflate":
            inflater = zlib.decompressobj(_RAW_WINDOW)
            found = inflater.decompress(data, most + 1)
            if len(found) <= most and not inflater.eof:
                raise FormatError("a deflate stream ends early")
        elif compression == "lzma":
            unpacker = lzma.LZMADecompressor(format=lzma.FORMAT_RAW, filters=_lzma_filters(level))
            found = unpacker.decompress(data, most + 1)
            if len(found) <= most and not unpacker.eof:
                raise FormatError("an lzma stream ends early")
        else:
            found = data
    except (zlib.error, lzma.LZMAError, zstandard.ZstdError, EOFError) as error:
        raise FormatError(f"a {compression} stream is corrupt ({error})") from error
    if len(found) > most:
        raise FormatError(f"a {compression} stream holds more than the {most} bytes that its header allows")
    return found


def _require_frame_end(data: bytes, found: int) -> None:
    declared = zstandard.frame_content_size(data)
    if declared >= 0 and found < declared:
        raise FormatError(f"a zstd stream ends after {found} of {declared} bytes")


def _lzma_filters(level: int) -> list[dict[str, int]]:
    return [{"id": lzma.FILTER_LZMA2, "preset": level}]
