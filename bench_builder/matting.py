"""Frames lose their background: by a model of rembg, or by their distance from the color that the still was laid on.

Masks are made frame by frame, then steadied over time; a haze that mattes leave far from the object is removed.
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
"""The name of the matting that needs no model."""

_NEAR, _FAR = 12, 60
"""Levels of 255 between which the distance from the background becomes alpha."""


def load_matting(name: str, background: Sequence[int]) -> Matting:
    """What makes a mask of a frame.

    Args:
        name: `color`, or what `rembg_matting` takes.
        background: red, green, blue of what the still was laid on; `color` alone looks at it.

    Raises:
        ConfigError: if there is no such model, or it cannot be loaded.
    """
    if name == COLOR:
        return lambda image: _distance(image, background)
    # One thread: sums over several depend on their number, and videos run in parallel anyway.
    return rembg_matting(name, threads=1)


def matting_identity(name: str) -> tuple[str, str | None]:
    """A matting's name without the place of its file, and the hash of that file if there is one.

    Raises:
        ConfigError: if the file is missing.
    """
    kind, colon, file = name.partition(":")
    if not colon:
        return name, None
    if not Path(file).is_file():
        raise ConfigError(f"matting model {name!r}: no file {file}")
    return kind, sha256_file(Path(file))


def make_masks(frames: Pixels, matting: Matting) -> Pixels:
    """RGB frames (T, H, W, 3) to alpha (T, H, W)."""
    masks = smooth_masks(np.stack([matting(Image.fromarray(frame)) for frame in frames]))
    masks[masks <= HAZE] = 0
    return masks


def _distance(image: Image.Image, background: Sequence[int]) -> Pixels:
    apart = np.abs(np.asarray(image, np.int16) - np.asarray(background, np.int16)).max(axis=2)
    return np.asarray(np.clip((apart - _NEAR) * 255 // (_FAR - _NEAR), 0, 255), np.uint8)
