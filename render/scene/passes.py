"""Depth and normals of an image, and how they are written: 16 bits a number, one file each.

Depth is the distance along the camera's z axis in units of the cube, 0 where nothing was hit. Normals are unit vectors
of the world, Z up, as shaded (normal maps included), 0 where nothing was hit. Both show the first surface that is at
least half opaque. The mask is the image's own alpha.
"""

from __future__ import annotations

import io
import tempfile
from collections.abc import Mapping
from pathlib import Path

import numpy as np
import OpenEXR
from PIL import Image

from helix4d.core import FormatError

DEPTH_SCALE = 4096.0
"""Steps of a stored depth per unit; the farthest that fits is 16, the farthest camera stands at 11.5."""

_LAYER = "ViewLayer"
_NOTHING = 1e9  # Blender's background is 1e10


def split_layers(
    channels: Mapping[str, np.ndarray],
) -> tuple[dict[str, np.ndarray], np.ndarray, np.ndarray]:
    """Blender's multilayer channels to its R, G, B, A, the depth (H, W) and the normals (H, W, 3), all float32."""
    colors = {name: channels[f"{_LAYER}.Combined.{name}"] for name in "RGBA"}
    depth = channels[f"{_LAYER}.Depth.Z"]
    hit = depth < _NOTHING
    normal = np.stack([channels[f"{_LAYER}.Normal.{axis}"] for axis in "XYZ"], axis=-1)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    normal = np.where(length > 0, normal / np.maximum(length, 1e-12), 0)
    return colors, np.where(hit, depth, 0).astype(np.float32), normal.astype(np.float32)


def encode_depth(depth: np.ndarray) -> bytes:
    """(H, W) float to a grayscale PNG of 16 bits: depth times `DEPTH_SCALE`, 0 for nothing."""
    steps = np.clip(np.rint(depth * DEPTH_SCALE), 0, 65535).astype(np.uint16)
    stream = io.BytesIO()
    Image.fromarray(steps).save(stream, "PNG")
    return stream.getvalue()


def decode_depth(data: bytes) -> np.ndarray:
    """The inverse: float32 (H, W).

    Raises:
        FormatError: if it is no such file.
    """
    try:
        with Image.open(io.BytesIO(data)) as image:
            steps = np.asarray(image)
    except (OSError, ValueError, SyntaxError) as error:
        raise FormatError(f"not a depth image ({error})") from error
    if steps.ndim != 2 or steps.dtype.kind not in "ui" or image.mode not in ("I;16", "I"):
        raise FormatError(f"not a depth image: {image.mode} of shape {steps.shape}, expected 16 bits of gray")
    return (steps / DEPTH_SCALE).astype(np.float32)


def encode_normal(normal: np.ndarray) -> bytes:
    """(H, W, 3) float to an OpenEXR file of half floats, channels X, Y, Z."""
    planes = {name: np.ascontiguousarray(normal[..., axis], np.float16) for axis, name in enumerate("XYZ")}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with tempfile.TemporaryDirectory(prefix="helix4d-normal-") as folder:
        path = Path(folder) / "normal.exr"
        OpenEXR.File(header, planes).write(str(path))
        return path.read_bytes()


def decode_normal(data: bytes) -> np.ndarray:
    """The inverse: float32 (H, W, 3).

    Raises:
        FormatError: if it is no such file.
    """
    with tempfile.TemporaryDirectory(prefix="helix4d-normal-") as folder:
        path = Path(folder) / "normal.exr"
        path.write_bytes(data)
        try:
            with OpenEXR.File(str(path), separate_channels=True) as image:
                planes = {name: channel.pixels for name, channel in image.channels().items()}
        except RuntimeError as error:
            raise FormatError(f"not an OpenEXR file ({error})") from error
    if set(planes) != set("XYZ"):
        raise FormatError(f"channels {sorted(planes)} where X, Y and Z were expected")
    return np.stack([planes[name] for name in "XYZ"], axis=-1).astype(np.float32)
