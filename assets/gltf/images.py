"""Reads texture images: sizes from their headers, pixels only when a material uses them."""

from __future__ import annotations

import io
import re
import struct
import zlib

import numpy as np
from PIL import Image, UnidentifiedImageError

from helix4d.assets.gltf.accessors import Accessors
from helix4d.assets.gltf.ktx2 import IDENTIFIER, decode_ktx2
from helix4d.assets.gltf.parse.values import JsonObject, alternatives
from helix4d.assets.limits import Limits
from helix4d.core import ReasonCode
from helix4d.core.arrays import UInt8Array
from helix4d.core.messages import reason

GLTF_FORMATS = ("PNG", "JPEG", "WEBP", "AVIF")
_END_OF_JPEG = b"\xff\xd9"
_DECODE_ERRORS = (
    OSError,
    ValueError,
    SyntaxError,
    EOFError,
    IndexError,
    KeyError,
    TypeError,
    OverflowError,
    ZeroDivisionError,
    MemoryError,
    struct.error,
    zlib.error,
    Image.DecompressionBombError,
)
"""Exceptions that Pillow's decoders raise for broken files."""


class Images:
    """Images of a document.

    Args:
        accessors: accessors of the document.
        decoded: cache of decoded pixels by index, which the clips of a file share; images are added to it.
        headers_only: check the sizes in image headers without decoding; every image becomes a single white pixel.

    Attributes:
        kept: images of the clip, in the order of their slots.
    """

    def __init__(
        self,
        accessors: Accessors,
        decoded: dict[int, UInt8Array | None] | None = None,
        headers_only: bool = False,
    ) -> None:
        self.accessors = accessors
        self.document = accessors.document
        self.headers_only = headers_only
        self.entries = self.document.root.children("images")
        self.kept: list[UInt8Array] = []
        self._slots: dict[int, int | None] = {}
        self._decoded = {} if decoded is None else decoded
        self._pixels = 0

    def use(self, index: int) -> int | None:
        """Return the slot of an image of the file; None, with a warning, if it is missing or broken."""
        if index not in self._slots:
            image = self.decoded(index)
            self._slots[index] = None if image is None else self.add(image)
        return self._slots[index]

    def add(self, image: UInt8Array) -> int:
        """Keep an (H, W, 4) uint8 image and return its slot."""
        self.kept.append(image)
        return len(self.kept) - 1

    def decoded(self, index: int) -> UInt8Array | None:
        """Return (H, W, 4) uint8 pixels, reduced to `Limits.image_side`; None, with a warning, if unavailable.

        Raises:
            AssetError: texture_too_large, from the headers, if this image or all images in use exceed a limit;
                uri_outside_asset, or an error in its buffer view.
        """
        if index not in self._decoded:
            data = self.data(index)
            if data is None:
                self._decoded[index] = None
                return None
            self._check_size(self.entries[index], data)
            if self.headers_only:
                self._decoded[index] = np.full((1, 1, 4), 255, np.uint8)
            else:
                self._decoded[index] = self._decode(self.entries[index], data)
        return self._decoded[index]

    def data(self, index: int) -> bytes | None:
        """Return the encoded image; None, with a warning, if it is missing.

        Raises:
            AssetError: uri_outside_asset, or an error in its buffer view.
        """
        entry = self.entries[index]
        view = entry.optional_index("bufferView", len(self.document.views))
        if view is not None:
            return self.accessors.view(view).tobytes()
        if not entry.has("uri"):
            self.document.warn(f"{entry.where}: has neither uri nor bufferView: replaced by white")
            return None
        data = self.document.resource(entry.text("uri"))
        if data is None:
            self.document.warn(f"{entry.where}: missing ({entry.text('uri')[:80]!r}): replaced by white")
        return data

    def _check_size(self, entry: JsonObject, data: bytes) -> None:
        """Check the size in the header of an image, and the total of all images checked so far."""
        size, limits = header_size(data), self.document.limits
        if size is None:
            return  # in another format: rejected by the decoder
        pixels = size[0] * size[1]
        self._pixels += pixels
        if pixels > limits.image_pixels:
            entry.fail(too_large(size, limits), ReasonCode.TEXTURE_TOO_LARGE)
        if self._pixels > limits.total_image_pixels:
            raise self.document.fail(
                ReasonCode.TEXTURE_TOO_LARGE,
                f"images total {self._pixels:,} pixels, more than the limit of {limits.total_image_pixels:,}",
            )

    def _decode(self, entry: JsonObject, data: bytes) -> UInt8Array | None:
        try:
            if data.startswith(IDENTIFIER):
                image, factor = _limited(decode_ktx2(data), self.document.limits)
            else:
                image, factor = decode_image(data, self.document.limits)
        except ValueError as error:
            self.document.warn(f"{entry.where}: cannot be decoded ({reason(error, 120)}): replaced by white")
            return None
        if factor > 1:
            self.document.warn(f"{entry.where}: {reduced_by(factor, self.document.limits)}")
        return image


def decode_image(data: bytes, limits: Limits, formats: tuple[str, ...] = GLTF_FORMATS) -> tuple[UInt8Array, int]:
    """Decode an image to (H, W, 4) uint8 RGBA, reduced to `Limits.image_side`; also return the reduction factor.

    Raises:
        ValueError: if it is broken, not in one of `formats`, or over `Limits.image_pixels`.
    """
    try:
        rgba = _pixels(data, limits, formats)
    except UnidentifiedImageError as error:
        raise ValueError(f"not a {alternatives(formats)} image, or corrupt") from error
    except _DECODE_ERRORS as error:
        completed = _completed_jpeg(data, limits) if "JPEG" in formats else None
        if completed is None:
            raise ValueError(reason(error)) from error
        rgba = completed
    return _limited(rgba, limits)


def _limited(rgba: UInt8Array, limits: Limits) -> tuple[UInt8Array, int]:
    """Return an image reduced to `Limits.image_side`, and the factor of reduction."""
    factor = -(-max(rgba.shape[:2]) // limits.image_side)
    return (_reduced(rgba, factor) if factor > 1 else rgba), factor


def _pixels(data: bytes, limits: Limits, formats: tuple[str, ...]) -> UInt8Array:
    with Image.open(io.BytesIO(data), formats=formats) as image:
        if image.width * image.height > limits.image_pixels:
            raise ValueError(too_large(image.size, limits))
        transparent = image.info.get("transparency")
        if image.format == "PNG" and isinstance(transparent, int) and data[24:26] in (b"\x02\x00", b"\x04\x00"):
            # Pillow scales 2-bit and 4-bit gray to 8 bits, but not the transparent value.
            image.info["transparency"] = transparent * (255 // ((1 << data[24]) - 1))
        return _to_rgba(image)


def _completed_jpeg(data: bytes, limits: Limits) -> UInt8Array | None:
    """Return the pixels of a JPEG that lacks only its end marker; None if pixels are missing.

    The file is decoded twice, with different bytes appended: missing pixels differ, since they are decoded from these
    bytes, which the decoder does not read after the last pixel.
    """
    if data[:2] != b"\xff\xd8":
        return None
    data = data.rstrip(b"\xff")  # the first half of the marker
    try:
        ended, padded = (
            _pixels(data + padding + _END_OF_JPEG, limits, ("JPEG",)) for padding in (b"", b"\xaa\x55" * 64)
        )
    except _DECODE_ERRORS:
        return None
    return ended if np.array_equal(ended, padded) else None


def too_large(size: tuple[int, int], limits: Limits) -> str:
    """Return the message for an image of (width, height) pixels that is over the limit."""
    return f"has {size[0]:,} × {size[1]:,} pixels, more than the limit of {limits.image_pixels:,}"


def reduced_by(factor: int, limits: Limits) -> str:
    """Return the warning for an image whose sides were divided by `factor`."""
    return f"a side is longer than {limits.image_side:,} pixels: reduced by a factor of {factor}"


def header_size(data: bytes) -> tuple[int, int] | None:
    """Return (width, height) from the header of a PNG, JPEG, WebP, AVIF or KTX2 file; None for other formats."""
    if data[:8] == b"\x89PNG\r\n\x1a\n" and data[12:16] == b"IHDR" and len(data) >= 24:
        width, height = struct.unpack(">II", data[16:24])
        return width, height
    if data[:2] == b"\xff\xd8":
        return _jpeg_size(data)
    if data[:4] == b"RIFF" and data[8:12] == b"WEBP" and len(data) >= 30:
        return _webp_size(data)
    if data[:8] == b"\xabKTX 20\xbb" and len(data) >= 28:
        width, height = struct.unpack("<II", data[20:28])
        return width, max(height, 1)
    if data[4:12] in (b"ftypavif", b"ftypavis"):
        return _avif_size(data)
    return None


def _avif_size(data: bytes) -> tuple[int, int] | None:
    """Return the size of the largest image in an AVIF file: an `ispe` box has 4 bytes of flags, width and height."""
    places = [match.end() + 4 for match in re.finditer(b"ispe", data)]
    sizes = [struct.unpack(">II", data[at : at + 8]) for at in places if at + 8 <= len(data)]
    return max(((width, height) for width, height in sizes), key=lambda size: size[0] * size[1], default=None)


def _jpeg_size(data: bytes) -> tuple[int, int] | None:
    position = 2
    while position + 9 <= len(data):
        if data[position] != 0xFF:
            position = data.find(b"\xff", position)
            if position == -1:
                return None
            continue
        marker = data[position + 1]
        if marker == 0xFF or marker == 0x01 or 0xD0 <= marker <= 0xD8:
            position += 1 if marker == 0xFF else 2
            continue
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width = struct.unpack(">HH", data[position + 5 : position + 9])
            return width, height
        position += 2 + max(int.from_bytes(data[position + 2 : position + 4], "big"), 2)
    return None


def _webp_size(data: bytes) -> tuple[int, int] | None:
    kind = data[12:16]
    if kind == b"VP8X":
        return 1 + int.from_bytes(data[24:27], "little"), 1 + int.from_bytes(data[27:30], "little")
    if kind == b"VP8L":
        bits = int.from_bytes(data[21:25], "little")
        return 1 + (bits & 0x3FFF), 1 + (bits >> 14 & 0x3FFF)
    if kind == b"VP8 ":
        return int.from_bytes(data[26:28], "little") & 0x3FFF, int.from_bytes(data[28:30], "little") & 0x3FFF
    return None


def _to_rgba(image: Image.Image) -> UInt8Array:
    if image.mode.startswith("I") or image.mode == "F":  # 16-bit gray, which convert() would clip rather than scale
        gray = np.asarray(image).astype(np.int64)
        wide = image.mode.startswith("I;16") or gray.max(initial=0) > 255
        gray8 = np.clip(gray >> 8 if wide else gray, 0, 255).astype(np.uint8)
        transparent = image.info.get("transparency")  # tRNS chunk of a PNG: one 16-bit value
        alpha = np.where(gray == transparent, 0, 255) if isinstance(transparent, int) else np.full_like(gray, 255)
        return np.dstack([gray8, gray8, gray8, alpha.astype(np.uint8)])
    return np.array(image.convert("RGBA"))


def _reduced(image: UInt8Array, factor: int) -> UInt8Array:
    # Channel by channel, as alpha may be unrelated data; Pillow's reduce averages factor × factor pixels.
    return np.stack([np.asarray(Image.fromarray(image[..., n]).reduce(factor)) for n in range(4)], axis=-1)
