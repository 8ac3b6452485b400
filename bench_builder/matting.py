"""Background removal, by a rembg model or by the distance from the background color of the padded still.

Masks are computed per frame and then smoothed over time; the faint haze that mattes leave is cleared.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
from PIL import Image

from helix4d.bench_builder.frames import HAZE, Pixels
from helix4d.core import ConfigError, sha256_file
from helix4d.model.conditioning.video_input import Matting, rembg_matting, smooth_masks

COLOR = "color"
"""Name of the matting that needs no model."""

_NEAR, _FAR = 12, 60
"""Distances from the background, of 255 levels, at which alpha starts to rise and becomes opaque."""


def load_matting(name: str, background: Sequence[int]) -> Matting:
    """Load a matting, a function from a frame to its mask.

    Args:
        name: `color`, or a name that `rembg_matting` takes.
        background: red, green and blue of the padded still's background, used by `color` only.

    Raises:
        ConfigError: if the model does not exist or cannot be loaded.
    """
    if name == COLOR:
        return lambda image: _distance(image, background)
    # One thread: results depend on the number of threads, and videos are finished in parallel anyway.
    return rembg_matting(name, threads=1)


def matting_identity(name: str) -> tuple[str, str | None]:
    """Name of a matting without the path of its file, and the hash of that file if it has one.

    Raises:
        ConfigError: if the file is missing.
    """
    kind, colon, file = name.partition(":")
    if not colon:
        return name, None
    if not Path(file).is_file():
        raise ConfigError(f"matting {name!r}: {file} does not exist")
    return kind, sha256_file(Path(file))


def make_masks(frames: Pixels, matting: Matting) -> Pixels:
    """Alpha (T, H, W) of RGB frames (T, H, W, 3)."""
    masks = smooth_masks(np.stack([matting(Image.fromarray(frame)) for frame in frames]))
    masks[masks <= HAZE] = 0
    return masks


def _distance(image: Image.Image, background: Sequence[int]) -> Pixels:
    distance = np.abs(np.asarray(image, np.int16) - np.asarray(background, np.int16)).max(axis=2)
    return np.asarray(np.clip((distance - _NEAR) * 255 // (_FAR - _NEAR), 0, 255), np.uint8)
