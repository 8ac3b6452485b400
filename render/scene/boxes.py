"""The part of an image that is worth rendering: the box around what the exact alpha shows."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MARGIN = 16
"""Pixels around the silhouette that are rendered too: a denoiser reads the neighborhood of a pixel."""


@dataclass(frozen=True)
class Box:
    """Pixels with top <= row < bottom and left <= column < right; the first row is on top.

    Raises:
        ValueError: on construction, if it holds no pixel.
    """

    top: int
    left: int
    bottom: int
    right: int

    def __post_init__(self) -> None:
        if not (0 <= self.top < self.bottom and 0 <= self.left < self.right):
            raise ValueError(f"{self}: a box holds at least one pixel")

    @property
    def height(self) -> int:
        return self.bottom - self.top

    @property
    def width(self) -> int:
        return self.right - self.left

    def paste(self, pixels: np.ndarray, image_size: int) -> np.ndarray:
        """Return an image of `image_size`² pixels, 0 outside the box: (height, width, ...) -> (S, S, ...)."""
        if pixels.shape[:2] != (self.height, self.width):
            raise ValueError(f"{pixels.shape[1]} x {pixels.shape[0]} pixels for {self}")
        image = np.zeros((image_size, image_size, *pixels.shape[2:]), pixels.dtype)
        image[self.top : self.bottom, self.left : self.right] = pixels
        return image


def tiles(box: Box, side: int) -> list[Box]:
    """Cut a box into boxes of at most `side`² pixels, row by row."""
    return [
        Box(top, left, min(top + side, box.bottom), min(left + side, box.right))
        for top in range(box.top, box.bottom, side)
        for left in range(box.left, box.right, side)
    ]


def whole_image(image_size: int) -> Box:
    """The box of all pixels of an image of `image_size`² pixels."""
    return Box(0, 0, image_size, image_size)


def silhouette_box(alpha: np.ndarray) -> Box | None:
    """The smallest box around all visible pixels, plus `MARGIN` pixels on each side as far as the image reaches.

    Args:
        alpha: (H, W) coverage in [0, 1]; a pixel is visible if its stored byte is above 0.

    Returns:
        The box, or None if no pixel is visible.
    """
    visible = np.rint(255.0 * alpha) > 0
    rows, columns = np.flatnonzero(visible.any(axis=1)), np.flatnonzero(visible.any(axis=0))
    if not len(rows):
        return None
    height, width = alpha.shape
    return Box(
        max(int(rows[0]) - MARGIN, 0),
        max(int(columns[0]) - MARGIN, 0),
        min(int(rows[-1]) + 1 + MARGIN, height),
        min(int(columns[-1]) + 1 + MARGIN, width),
    )
