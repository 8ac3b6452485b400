"""Reads the uncompressed OpenEXR files that Blender writes for us, any number of layers and channels.

Blender in background mode hands its pixels over through files only; this is the one format that keeps them linear and
unrounded, and without compression it is a header and planes of floats (OpenEXR file layout, scan-line files).
"""

from __future__ import annotations

import struct

import numpy as np

from core import FormatError

_MAGIC = b"v/1\x01"
_PIXEL_TYPES = {0: np.dtype("<u4"), 1: np.dtype("<f2"), 2: np.dtype("<f4")}


def read_exr(data: bytes) -> dict[str, np.ndarray]:
    """The channels of a single-part scan-line file without compression.

    Args:
        data: the whole file.

    Returns:
        name ("R", or "ViewLayer.Depth.Z" in files of several layers) -> (H, W) array in the file's own type, first row
        on top.

    Raises:
        FormatError: if it is not such a file.
    """
    if data[:4] != _MAGIC or len(data) < 8 or data[4] != 2 or data[5] & 0b1010:
        raise FormatError("not a single-part scan-line OpenEXR file of version 2")
    header, start = _header(data)
    try:
        channels = _channels(header["channels"])
        x0, y0, x1, y1 = struct.unpack("<4i", header["dataWindow"])
        compression = header["compression"][0]
    except (KeyError, struct.error) as error:
        raise FormatError(f"OpenEXR header without {error}") from error
    if compression != 0:
        raise FormatError(f"OpenEXR compression {compression}: only uncompressed files are read")
    width, height = x1 - x0 + 1, y1 - y0 + 1
    # A line: its number, its length in bytes, then one plane per channel in alphabetical order.
    line = np.dtype([("y", "<i4"), ("size", "<i4"), *((name, _PIXEL_TYPES[kind], (width,)) for name, kind in channels)])
    first = start + 8 * height  # after the table of line offsets
    if len(data) < first + height * line.itemsize:
        raise FormatError(f"OpenEXR file ends at byte {len(data)} of {first + height * line.itemsize}")
    lines = np.frombuffer(data, line, height, first)
    if not np.array_equal(lines["y"], np.arange(y0, y1 + 1)):
        raise FormatError("OpenEXR lines out of order")
    return {name: lines[name] for name, _ in channels}


def _header(data: bytes) -> tuple[dict[str, bytes], int]:
    attributes, at = {}, 8
    while data[at : at + 1] != b"\0":
        name, at = _text(data, at)
        _, at = _text(data, at)
        (size,) = struct.unpack_from("<i", data, at)
        attributes[name] = data[at + 4 : at + 4 + size]
        at += 4 + size
    return attributes, at + 1


def _channels(data: bytes) -> list[tuple[str, int]]:
    channels, at = [], 0
    while data[at : at + 1] != b"\0":
        name, at = _text(data, at)
        channels.append((name, struct.unpack_from("<i", data, at)[0]))
        at += 16  # type, linearity and reserved bytes, the two sampling rates (always 1 in ours)
    return channels


def _text(data: bytes, at: int) -> tuple[str, int]:
    end = data.find(b"\0", at)
    if end < 0:
        raise FormatError("OpenEXR header ends inside a name")
    return data[at:end].decode("utf-8", "replace"), end + 1
