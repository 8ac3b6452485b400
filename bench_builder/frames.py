"""Stills and frames as arrays: what happens to a still before the video model and to its frames after.

Every function is pure and gives the same bytes for the same bytes. Colors are not premultiplied; alpha is 255 where
the object is. Frames come and go as uint8 (T, H, W, 4), masks as uint8 (T, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helix4d.core import ConfigError, FormatError

Pixels = NDArray[np.uint8]

Square = tuple[int, int, int]
"""Left, top, side in pixels; may reach beyond the frame."""

HAZE = 8
"""Alpha up to this counts as nothing: mattes leave a haze."""

_FILTER = Image.Resampling.HAMMING
"""Has no negative lobes: a hard edge of alpha gets neither holes inside nor a halo outside."""


def pad_still(still: Image.Image, size: int, fill: float, background: Sequence[int]) -> Image.Image:
    """An RGB square of `size` pixels with a still's object in the middle, on a plain background.

    The object is what alpha covers (everything, where there is no alpha); its longest side becomes `fill` of the frame.

    Raises:
        FormatError: for a still with nothing in it.
    """
    rgba = still.convert("RGBA")
    box = rgba.getchannel("A").getbbox()
    if box is None:
        raise FormatError("the still is fully transparent: there is no object to animate")
    scale = fill * size / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round(scale * side)) for side in (box[2] - box[0], box[3] - box[1]))
    # Premultiplied, so that colors under transparent pixels do not bleed into the edge.
    cut = rgba.crop(box).convert("RGBa").resize((width, height), _FILTER).convert("RGBA")
    frame = Image.new("RGBA", (size, size), (*background, 255))
    frame.alpha_composite(cut, ((size - width) // 2, (size - height) // 2))
    return frame.convert("RGB")


def choose_frames(generated: int, wanted: int) -> list[int]:
    """Which generated frames are kept: the first, then every s-th, s the largest whole stride that fits.

    The still itself is always in, and time runs evenly. 17 generated, 16 wanted: stride 1, the last frame is dropped.
    81 generated: 0, 5, ..., 75.

    Raises:
        ConfigError: if there are fewer frames than wanted.
    """
    if not 1 <= wanted <= generated:
        raise ConfigError(f"{wanted} frames wanted of {generated} generated: at least 1, at most all")
    stride = (generated - 1) // (wanted - 1) if wanted > 1 else 1
    return [stride * frame for frame in range(wanted)]


def shared_square(masks: Pixels, margin: float = 0.05, threshold: int = HAZE) -> Square:
    """The square that holds the object in all frames: centered on the union of the boxes of alpha over `threshold`.

    Args:
        masks: alpha, (T, H, W).
        margin: room on every side, as a share of the union's longest side.
        threshold: alpha up to this counts as nothing.

    Raises:
        FormatError: if no frame shows anything.
    """
    _check(masks, 3, "masks (T, H, W)")
    seen: NDArray[np.bool_] = np.max(masks, axis=0) > threshold
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if not len(rows):
        raise FormatError(f"no pixel of {len(masks)} frames has alpha over {threshold}: the object was matted away")
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    longest = max(right - left, bottom - top)
    side = longest + 2 * int(np.ceil(margin * longest))
    return (left + right - side) // 2, (top + bottom - side) // 2, side


def crop_frames(frames: Pixels, square: Square, size: int) -> Pixels:
    """The same square cut from every frame and resized to `size` pixels; what lies beyond the frame is transparent."""
    _check(frames, 4, "frames (T, H, W, 4)")
    left, top, side = square
    box = (left, top, left + side, top + side)
    # Premultiplied while resizing: Pillow's crop fills what is outside with zeros.
    return np.stack(
        [
            np.asarray(Image.fromarray(frame).crop(box).convert("RGBa").resize((size, size), _FILTER).convert("RGBA"))
            for frame in frames
        ]
    )


def _check(array: Pixels, dimensions: int, what: str) -> None:
    if (
        array.ndim != dimensions
        or array.dtype != np.uint8
        or not array.size
        or (dimensions == 4 and array.shape[3] != 4)
    ):
        raise FormatError(f"expected uint8 {what}, found {array.dtype} {array.shape}")
