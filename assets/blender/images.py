"""Reads the images of a Blender file. They are decoded here rather than by Blender, from the asset's folder only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets.gltf.images import GLTF_FORMATS, decode_image, header_size, reduced_by, too_large
from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import UInt8Array
from helix4d.core.messages import reason
from helix4d.core.storage import is_fault

_FORMATS = (*GLTF_FORMATS, "BMP", "TGA", "TIFF")


class BlenderImages:
    """Images of a file, each decoded once.

    Args:
        path: path of the asset.
        root: folder that image files must not leave.
        limits: upper bounds on the size of images.
        warn: receives what was replaced or reduced.
    """

    def __init__(self, path: Path, root: Path, limits: Limits, warn: Callable[[str], None]) -> None:
        self._path, self._root, self._limits, self._warn = path, root, limits, warn
        self._decoded: dict[tuple[str, str], UInt8Array | None] = {}
        self._pixels = 0

    def read(self, image: Any) -> UInt8Array | None:
        """Return the (H, W, 4) uint8 pixels of a Blender image; None, with a warning, if it is unavailable.

        Raises:
            AssetError: texture_too_large.
        """
        key = image.name_full, image.filepath
        if key not in self._decoded:
            self._decoded[key] = self._read(image)
        return self._decoded[key]

    def _read(self, image: Any) -> UInt8Array | None:
        if image.source == "GENERATED" and image.packed_file is None:
            return self._generated(image)
        if image.source in ("TILED", "SEQUENCE", "MOVIE"):
            self._warn(f"image {image.name[:40]!r}: of the source {image.source} only one image is shown")
        data = self._bytes(image)
        return None if data is None else self._decode(image.name, data)

    def _generated(self, image: Any) -> UInt8Array:
        """Return the pixels of an image that Blender computes, such as a test grid."""
        width, height = image.size
        self._check_size(image.name, (width, height))
        pixels = np.empty(width * height * image.channels, np.float32)
        image.pixels.foreach_get(pixels)
        rows = pixels.reshape(height, width, image.channels)[::-1]
        return np.ascontiguousarray(np.rint(255 * np.clip(rows, 0, 1)).astype(np.uint8))

    def _bytes(self, image: Any) -> bytes | None:
        if image.packed_file is not None:
            return bytes(image.packed_file.data)
        folder = self._root.resolve()
        try:
            # The path is untrusted: open it only if it lies inside the asset's folder.
            target = Path(image.filepath_from_user()).resolve()
            available = target.is_relative_to(folder) and target.is_file()
            if available and target.stat().st_size <= self._limits.file_bytes:
                return target.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:
            if is_fault(error):
                raise
            self._warn(f"image {image.name!r}: cannot be read ({reason(error)}): replaced by white")
            return None
        problem = "larger than the limit" if available else "not found in the asset's folder"
        self._warn(f"image {image.name!r}: {problem}: replaced by white")
        return None

    def _decode(self, name: str, data: bytes) -> UInt8Array | None:
        size = header_size(data)
        if size is not None:
            self._check_size(name, size)
        try:
            pixels, factor = decode_image(data, self._limits, _FORMATS)
        except ValueError as error:
            self._warn(f"image {name!r}: cannot be decoded ({reason(error, 120)}): replaced by white")
            return None
        if factor > 1:
            self._warn(f"image {name!r}: {reduced_by(factor, self._limits)}")
        return pixels

    def _check_size(self, name: str, size: tuple[int, int]) -> None:
        self._pixels += size[0] * size[1]
        if size[0] * size[1] > self._limits.image_pixels:
            message = f"image {name!r}: {too_large(size, self._limits)}"
            raise AssetError(ReasonCode.TEXTURE_TOO_LARGE, message, self._path)
        if self._pixels > self._limits.total_image_pixels:
            message = f"images total more than the limit of {self._limits.total_image_pixels:,} pixels"
            raise AssetError(ReasonCode.TEXTURE_TOO_LARGE, message, self._path)
