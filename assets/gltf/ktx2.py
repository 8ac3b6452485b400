"""Decodes KTX2 textures of KHR_texture_basisu: ETC1S and UASTC, with Binomial's transcoder (package opengl_basisu)."""

from __future__ import annotations

import struct

import numpy as np

from helix4d.core.arrays import UInt8Array
from helix4d.core.extras import missing_package

IDENTIFIER = b"\xabKTX 20\xbb\r\n\x1a\n"
_HEADER_BYTES = 104
_BLOCK_BYTES = 16
"""Bytes of a block of 4 × 4 pixels in UASTC, the larger of the two codecs."""


def decode_ktx2(data: bytes) -> UInt8Array:
    """Return the largest mip level as (H, W, 4) uint8 RGBA, first row on top.

    Raises:
        ValueError: if the file is damaged, or not a single 2D image in one of the two codecs that glTF allows.
        ConfigError: if the decoder is not installed.
    """
    try:
        import opengl_basisu
    except ModuleNotFoundError as error:
        raise missing_package("reading KTX2 textures", "opengl_basisu") from error
    _check_header(data)
    texture = opengl_basisu.open(data)
    if texture.codec not in (opengl_basisu.Codec.ETC1S, opengl_basisu.Codec.UASTC_LDR_4x4):
        raise ValueError(f"its codec is {texture.codec.name}, but glTF allows ETC1S and UASTC only")
    return np.asarray(texture.transcode("rgba8").data, np.uint8)


def _check_header(data: bytes) -> None:
    """Check the sizes in a header before memory is allocated. Byte offsets: KTX 2.0 specification, section 3."""
    if len(data) < _HEADER_BYTES:
        raise ValueError(f"has {len(data)} bytes, less than the header of a KTX2 file: it is truncated")
    width, height, depth, layers, faces = struct.unpack("<5I", data[20:40])
    if depth or layers > 1 or faces != 1 or not (width and height):
        found = f"{width} × {height} × {depth}, {layers} layers, {faces} faces"
        raise ValueError(f"is not a single 2D image ({found})")
    unpacked = int.from_bytes(data[96:104], "little")
    if unpacked > (most := _BLOCK_BYTES * -(-width // 4) * -(-height // 4)):
        raise ValueError(f"its first level unpacks to {unpacked:,} bytes, more than its pixels need ({most:,})")
