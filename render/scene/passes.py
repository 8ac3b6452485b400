"""Depth and normals of an image, and their files: 16 bits per value, one file each.

Depth is the distance along the camera's z axis in units of the cube, 0 where nothing was hit. Normals are unit vectors
in world space, Z up, as shaded (normal maps included), 0 where nothing was hit. Both show the first surface that is at
least half opaque. The mask is the image's own alpha.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.core import FormatError
from helix4d.core.messages import reason
from helix4d.render.scene.exr_files import read_exr, write_exr
from helix4d.render.scene.images import Layers

DEPTH_SCALE = 4096.0
"""Steps of a stored depth per unit: depths up to 16 fit, and the farthest sampled camera is at 11.5."""

MOST_PIXELS = 4096
"""Largest side of a stored image, as in `SampleConfig`: larger ones are refused before they are decoded."""

_LAYER = "ViewLayer"
_BACKGROUND = 1e9  # Blender writes 1e10 where it hits nothing


def split_layers(channels: Mapping[str, np.ndarray]) -> Layers:
    """Split the channels of Blender's multilayer file into colors, depth and normals."""
    colors = {name: channels[f"{_LAYER}.Combined.{name}"] for name in "RGBA"}
    depth = channels[f"{_LAYER}.Depth.Z"]
    hit = depth < _BACKGROUND
    normal = np.stack([channels[f"{_LAYER}.Normal.{axis}"] for axis in "XYZ"], axis=-1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.where(length > 0, normal / np.maximum(length, 1e-12), 0)
    return Layers(colors, np.where(hit, depth, 0).astype(np.float32), normal.astype(np.float32))


def encode_depth(depth: np.ndarray) -> bytes:
    """Write (H, W) float depth as a 16-bit grayscale PNG of depth times `DEPTH_SCALE`, 0 where nothing was hit."""
    steps = np.clip(np.rint(depth * DEPTH_SCALE), 0, 65535).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(steps).save(stream, "PNG")
    return stream.getvalue()


def decode_depth(data: bytes) -> np.ndarray:
    """Read (H, W) float32 depth from what `encode_depth` wrote.

    Raises:
        FormatError: if the data is not a 16-bit grayscale image.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["PNG"]) as image:
            if max(image.size) > MOST_PIXELS:
                raise FormatError(f"not a depth image: {image.size[0]}×{image.size[1]} pixels, at most {MOST_PIXELS}²")
            steps = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"not a depth image ({reason(error)})") from error
    if steps.ndim != 2 or steps.dtype.kind not in "ui" or image.mode not in ("I;16", "I"):
        raise FormatError(f"not a depth image: mode {image.mode}, shape {steps.shape}, expected 16-bit grayscale")
    return (steps / DEPTH_SCALE).astype(np.float32)


def encode_normal(normal: np.ndarray) -> bytes:
    """Write (H, W, 3) float normals as an OpenEXR file of half floats, channels X, Y, Z."""
    planes = {name: np.ascontiguousarray(normal[..., axis], np.float16) for axis, name in enumerate("XYZ")}
    with tempfile.TemporaryDirectory(prefix="helix4d-normal-") as folder:
        path = Path(folder) / "normal.exr"
        write_exr(path, planes)
        return path.read_bytes()


def decode_normal(data: bytes) -> np.ndarray:
    """Read (H, W, 3) float32 normals from what `encode_normal` wrote.

    Raises:
        FormatError: if the data is not an OpenEXR file with channels X, Y and Z.
    """
    with tempfile.TemporaryDirectory(prefix="helix4d-normal-") as folder:
        path = Path(folder) / "normal.exr"
        path.write_bytes(data)
        planes = read_exr(path, _check_normal_size)
    if set(planes) != set("XYZ"):
        raise FormatError(f"not a normal image: channels {sorted(planes)}, expected X, Y and Z")
    return np.stack([planes[name] for name in "XYZ"], axis=-1).astype(np.float32)


def _check_normal_size(width: int, height: int) -> None:
    if max(width, height) > MOST_PIXELS:
        raise FormatError(f"not a normal image: {width}×{height} pixels, at most {MOST_PIXELS}²")
