"""Reads `.hdr` (Radiance RGBE) and `.exr` files as linear floats.

The files are untrusted: sizes are checked before anything is decoded.
"""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np

from helix4d.core import ConfigError, FormatError
from helix4d.render.scene.exr_files import read_exr
from helix4d.render.scene.hdr_kernels import decode_rows

SUFFIXES = (".exr", ".hdr")
MAX_PIXELS = 16384 * 8192

_BRIGHTEST = 65504.0  # largest half float; replaces infinity
_MAX_HEADER = 1 << 16


def read_hdr_file(path: Path) -> np.ndarray:
    """Read (H, W, 3) float32 linear light, finite and not negative, top row first.

    Raises:
        ConfigError: if the file is damaged, too large, or of another format.
    """
    light = _read_exr(path) if path.suffix.lower() == ".exr" else _read_radiance(path)
    if np.isnan(light).any():
        raise ConfigError(f"{path}: contains NaN pixels: the file is damaged")
    return np.ascontiguousarray(np.clip(light, 0.0, _BRIGHTEST), np.float32)


def _read_radiance(path: Path) -> np.ndarray:
    data = path.read_bytes()
    found = re.search(rb"\n\n-Y (\d{1,7}) \+X (\d{1,7})\n", data[:_MAX_HEADER])
    if not data.startswith((b"#?RADIANCE", b"#?RGBE")) or found is None:
        raise ConfigError(f"{path}: not a Radiance file with rows from top to bottom (-Y height +X width)")
    if b"FORMAT=32-bit_rle_xyze" in data[: found.start()]:
        raise ConfigError(f"{path}: contains XYZ colors, expected RGB: convert it with ra_xyze -r")
    height, width = int(found[1]), int(found[2])
    _check_size(path, height, width)
    pixels = np.zeros((height, width, 4), np.uint8)
    if not decode_rows(np.frombuffer(data, np.uint8, offset=found.end()), pixels):
        raise ConfigError(f"{path}: truncated or damaged, expected {width} x {height} pixels")
    exponents = pixels[..., 3:].astype(np.int32)
    return np.where(exponents > 0, np.ldexp(pixels[..., :3].astype(np.float32), exponents - 136), np.float32(0.0))


def _read_exr(path: Path) -> np.ndarray:
    try:
        channels = read_exr(path, lambda width, height: _check_size(path, height, width))
    except FormatError as error:
        raise ConfigError(f"{path}: {error}") from error
    if not set("RGB") <= set(channels):
        raise ConfigError(f"{path}: has channels {', '.join(sorted(channels))}, expected R, G and B")
    return np.stack([channels[name].astype(np.float32) for name in "RGB"], axis=-1)


def _check_size(path: Path, height: int, width: int) -> None:
    if not 0 < height * width <= MAX_PIXELS:
        raise ConfigError(f"{path}: {width} x {height} pixels exceed the limit of {MAX_PIXELS}")
    if width != 2 * height:
        raise ConfigError(f"{path}: {width} x {height} pixels, expected an equirectangular map, twice as wide as high")
