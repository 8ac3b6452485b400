"""Decodes the images of materials for formats other than glTF, and combines channels of several images."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.assets.gltf.images import GLTF_FORMATS, decode_image, header_size, reduced_by, too_large
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array, UInt8Array
from helix4d.core.messages import path_end

_GRAY = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")
_FORMATS = (*GLTF_FORMATS, "BMP", "TGA", "TIFF")


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image: (H, W, 4) uint8 pixels, and whether the file is in color and not grayscale."""

    pixels: UInt8Array
    has_colors: bool


class Pictures:
    """Images of a clip.

    Args:
        path: path of the asset.
        limits: upper bounds on the size of images.

    Attributes:
        images: images of the clip, each (H, W, 4) uint8.
        warnings: messages about replaced and reduced images.
    """

    def __init__(self, path: Path, limits: Limits) -> None:
        self._path, self._limits = path, limits
        self._slots: dict[int, int] = {}
        self._pixels = 0
        self.images: list[UInt8Array] = []
        self.warnings: list[str] = []

    def add(self, image: UInt8Array) -> int:
        """Return the slot of an (H, W, 4) uint8 image; the same array always has the same slot."""
        if id(image) not in self._slots:
            self._slots[id(image)] = len(self.images)
            self.images.append(image)
        return self._slots[id(image)]

    def decode(self, name: str, data: bytes) -> Picture | None:
        """Return the picture in the bytes of a file; None, with a warning, if it is damaged.

        Raises:
            AssetError: texture_too_large.
        """
        size = header_size(data)
        self._pixels += size[0] * size[1] if size else 0
        if size is not None and size[0] * size[1] > self._limits.image_pixels:
            message = f"image {path_end(name)!r}: {too_large(size, self._limits)}"
            raise AssetError(ReasonCode.TEXTURE_TOO_LARGE, message, self._path)
        if self._pixels > self._limits.total_image_pixels:
            message = f"images total more than the limit of {self._limits.total_image_pixels:,} pixels"
            raise AssetError(ReasonCode.TEXTURE_TOO_LARGE, message, self._path)
        try:
            pixels, factor = decode_image(data, self._limits, _FORMATS)
            with Image.open(io.BytesIO(data)) as opened:
                has_colors = opened.mode not in _GRAY
        except ValueError as error:
            self.warnings.append(
                f"image {path_end(name)!r}: cannot be decoded ({str(error)[:120]}): replaced by the fallback"
            )
            return None
        if factor > 1:
            self.warnings.append(f"image {path_end(name)!r}: {reduced_by(factor, self._limits)}")
        return Picture(pixels, has_colors)


def to_linear(values: Float64Array) -> Float64Array:
    """Convert sRGB values in [0, 1] to linear values."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_srgb(values: Float64Array) -> Float64Array:
    """Convert linear values, clipped to [0, 1], to sRGB."""
    clipped = np.clip(values, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)


def mapped(channel: UInt8Array, table: Float64Array) -> UInt8Array:
    """Apply a (256,) table of values in [0, 1] to an (H, W) uint8 channel, rounding to uint8."""
    return np.rint(255 * np.clip(table, 0.0, 1.0)).astype(np.uint8)[channel]


def combined(channels: list[UInt8Array | None]) -> UInt8Array:
    """Return the (H, W, 4) image of four (h, w) channels, resized to the largest; 255 where a channel is None."""
    height, width = max((c.shape for c in channels if c is not None), key=lambda shape: shape[0] * shape[1])
    image = np.full((height, width, 4), 255, np.uint8)
    for number, channel in enumerate(channels):
        if channel is None:
            continue
        if channel.shape != (height, width):
            resized = Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR)
            channel = np.asarray(resized)
        image[..., number] = channel
    return image
