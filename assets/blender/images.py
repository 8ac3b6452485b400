"""Reads the images of a Blender file. They are decoded here instead of by Blender, only from the asset's folder."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets.gltf.images import too_large
from helix4d.assets.limits import Limits
from helix4d.assets.pictures import Pictures
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import UInt8Array
from helix4d.core.messages import reason
from helix4d.core.storage import is_fault


class BlenderImages(Pictures):
    """Images of a file, each decoded once.

    Args:
        path: path of the asset.
        root: folder that image files must not leave.
        limits: upper bounds on the size of images.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        self._root = root
        self._decoded: dict[tuple[str, str], UInt8Array | None] = {}

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
            self.warnings.append(f"image {image.name[:80]!r}: only one image of the source {image.source} is shown")
        data = self._bytes(image)
        picture = None if data is None else self.decode(image.name, data)
        return None if picture is None else picture.pixels

    def _generated(self, image: Any) -> UInt8Array:
        """Return the pixels of an image that Blender computes, such as a test grid."""
        width, height = image.size
        if width * height > self._limits.image_pixels:
            message = f"image {image.name[:80]!r}: {too_large((width, height), self._limits)}"
            raise AssetError(ReasonCode.TEXTURE_TOO_LARGE, message, self._path)
        pixels = np.empty(width * height * 4, np.float32)
        image.pixels.foreach_get(pixels)
        rows = pixels.reshape(height, width, 4)[::-1]
        return np.asarray(np.rint(255 * np.clip(rows, 0, 1)), np.uint8)

    def _bytes(self, image: Any) -> bytes | None:
        if image.packed_file is not None:
            return bytes(image.packed_file.data)
        folder = self._root.resolve()
        try:
            # The path is untrusted: open it only if it is inside the asset's folder.
            target = Path(image.filepath_from_user()).resolve()
            available = target.is_relative_to(folder) and target.is_file()
            if available and target.stat().st_size <= self._limits.file_bytes:
                return target.read_bytes()
            problem = "larger than the limit" if available else "not found in the asset's folder"
        except (OSError, ValueError, RuntimeError) as error:
            if is_fault(error):
                raise
            problem = f"cannot be read ({reason(error)})"
        self.warnings.append(f"image {image.name[:80]!r}: {problem}: replaced by white")
        return None
