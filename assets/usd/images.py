"""Reads the images of textures, and combines channels of several of them to the images that `Material` refers to."""

from __future__ import annotations

import io
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from PIL import Image
from pxr import Ar, Sdf

from helix4d.assets.gltf.images import GLTF_FORMATS, decode_image, header_size, reduced_by, too_large
from helix4d.assets.limits import Limits
from helix4d.assets.usd.layers import asset_path_problem, is_inside
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array, UInt8Array
from helix4d.core.storage import is_fault

_GRAY = ("1", "L", "LA", "I", "F", "I;16", "I;16B", "I;16L")
_FORMATS = (*GLTF_FORMATS, "BMP", "TGA", "TIFF")


@dataclass(frozen=True, eq=False)
class Picture:
    """A decoded image: (H, W, 4) uint8 pixels, and whether the file holds colors rather than a gray scale."""

    pixels: UInt8Array
    has_colors: bool


class TextureFiles:
    """Image files of a stage, each decoded once.

    Args:
        path: path of the asset.
        root: folder that the files must not lie outside of.
        limits: upper bounds on their size.

    Attributes:
        images: images of the clip, each (H, W, 4) uint8.
        warnings: what was replaced or reduced.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        self._path, self._root, self._limits = path, root, limits
        self._decoded: dict[str, Picture | None] = {}
        self._slots: dict[int, int] = {}
        self._pixels = 0
        self.images: list[UInt8Array] = []
        self.warnings: list[str] = []

    def add(self, image: UInt8Array) -> int:
        """Return the slot of an image; the same array has one slot only."""
        if id(image) not in self._slots:
            self._slots[id(image)] = len(self.images)
            self.images.append(image)
        return self._slots[id(image)]

    def read(self, asset: Sdf.AssetPath, layer: Sdf.Layer | None) -> Picture | None:
        """Return the picture in a file; None, with a warning, if it is missing or broken.

        Args:
            asset: value of the attribute that names the file.
            layer: layer that holds the value, to which a relative path refers.

        Raises:
            AssetError: uri_outside_asset, texture_too_large.
        """
        name = asset.path.replace("\\", "/")
        problem = asset_path_problem(name, layer, self._root) if layer is not None and name else None
        if problem:
            message = f"a texture refers to {name[:80]!r}, which {problem}"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, self._path)
        found = asset.resolvedPath
        if not found and layer is not None and name:
            found = str(Ar.GetResolver().Resolve(Sdf.ComputeAssetPathRelativeToLayer(layer, name)))
        key = found or name
        if key not in self._decoded:
            data = self._bytes(found, name)
            self._decoded[key] = None if data is None else self._decode(name, data)
        return self._decoded[key]

    def _bytes(self, found: str, name: str) -> bytes | None:
        outer = Ar.SplitPackageRelativePathOuter(found)[0]
        if not found or not is_inside(outer, self._root):
            problem = "udim tiles are not supported" if "<UDIM>" in name else "not found in the asset's folder"
            self.warnings.append(f"image {name[:80]!r}: {problem}: replaced by the fallback")
            return None
        try:
            if Ar.IsPackageRelativePath(found):
                opened = Ar.GetResolver().OpenAsset(Ar.ResolvedPath(found))
                with opened:
                    return bytes(opened.GetBuffer())
            if Path(found).is_file() and Path(found).stat().st_size <= self._limits.file_bytes:
                return Path(found).read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            if is_fault(error):
                raise
        self.warnings.append(
            f"image {name[:80]!r}: cannot be read, or is larger than the limit: replaced by the fallback"
        )
        return None

    def _decode(self, name: str, data: bytes) -> Picture | None:
        size = header_size(data)
        self._pixels += size[0] * size[1] if size else 0
        if size is not None and size[0] * size[1] > self._limits.image_pixels:
            message = f"image {name[:80]!r}: {too_large(size, self._limits)}"
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
                f"image {name[:80]!r}: cannot be decoded ({str(error)[:120]}): replaced by the fallback"
            )
            return None
        if factor > 1:
            self.warnings.append(f"image {name[:80]!r}: {reduced_by(factor, self._limits)}")
        return Picture(pixels, has_colors)


def to_linear(values: Float64Array) -> Float64Array:
    """Convert sRGB values in [0, 1] to linear ones."""
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
