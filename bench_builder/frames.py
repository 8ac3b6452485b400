"""Stills and frames as arrays: a still's preparation for the video model, and the cropping of its frames afterwards.

Every function is pure and deterministic. Frames are uint8 (T, H, W, 4) with straight alpha, 255 where the object is;
masks are uint8 (T, H, W).
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from helix4d.core import ConfigError, FormatError

Pixels = NDArray[np.uint8]

Square = tuple[int, int, int]
"""Left, top and side in pixels; may extend beyond the frame."""

HAZE = 8
"""Largest alpha that counts as transparent: mattes leave a haze."""

_FILTER = Image.Resampling.HAMMING
"""Has no negative lobes, so a hard edge of alpha gets neither holes inside nor a halo outside."""


def pad_still(still: Image.Image, size: int, fill: float, background: Sequence[int]) -> Image.Image:
    """An RGB square of `size` pixels with the still's object in the center of a plain background.

    The object is what alpha covers, or the whole still without alpha. Its longest side fills the share `fill` of the
    frame.

    Raises:
        FormatError: if the still is fully transparent.
    """
    rgba = still.convert("RGBA")
    box = rgba.getchannel("A").getbbox()
    if box is None:
        raise FormatError("the still is fully transparent: it shows no object to animate")
    scale = fill * size / max(box[2] - box[0], box[3] - box[1])
    width, height = (max(1, round(scale * side)) for side in (box[2] - box[0], box[3] - box[1]))
    # Premultiplied, so that the colors of transparent pixels do not bleed into the edge.
    cut = rgba.crop(box).convert("RGBa").resize((width, height), _FILTER).convert("RGBA")
    frame = Image.new("RGBA", (size, size), (*background, 255))
    frame.alpha_composite(cut, ((size - width) // 2, (size - height) // 2))
    return frame.convert("RGB")


def choose_frames(generated: int, kept: int) -> list[int]:
    """Indices of the generated frames to keep: the first one, then every s-th, with the largest stride s that fits.

    This always includes the still itself and keeps time uniform. To keep 16 of 17 frames, the stride is 1 and the last
    frame is dropped; of 81 frames, it keeps 0, 5, ..., 75.

    Raises:
        ConfigError: if fewer frames are generated than kept.
    """
    if not 1 <= kept <= generated:
        raise ConfigError(f"cannot keep {kept} of {generated} generated frames: must be from 1 to {generated}")
    stride = (generated - 1) // (kept - 1) if kept > 1 else 1
    return [stride * frame for frame in range(kept)]


def shared_square(masks: Pixels, margin: float = 0.05, threshold: int = HAZE) -> Square:
    """Return the square that contains the object in all frames, centered on the union of its bounding boxes.

    Args:
        masks: alpha, (T, H, W).
        margin: margin on every side, as a share of the union's longest side.
        threshold: largest alpha that counts as transparent.

    Raises:
        FormatError: if all frames are transparent.
    """
    _check(masks, 3, "masks (T, H, W)")
    visible: NDArray[np.bool_] = np.max(masks, axis=0) > threshold
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        raise FormatError(f"no pixel of {len(masks)} frames has alpha over {threshold}: matting removed the object")
    top, bottom = int(rows[0]), int(rows[-1]) + 1
    left, right = int(columns[0]), int(columns[-1]) + 1
    longest = max(right - left, bottom - top)
    side = longest + 2 * int(np.ceil(margin * longest))
    return (left + right - side) // 2, (top + bottom - side) // 2, side


def crop_frames(frames: Pixels, square: Square, size: int) -> Pixels:
    """Crop every frame to the same square and resize it to `size` pixels; beyond the frame it is transparent."""
    _check(frames, 4, "frames (T, H, W, 4)")
    left, top, side = square
    box = (left, top, left + side, top + side)
    # Premultiplied while resizing, because Pillow's crop fills the outside with zeros.
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
        raise FormatError(f"expected uint8 {what}, got {array.dtype} {array.shape}")
