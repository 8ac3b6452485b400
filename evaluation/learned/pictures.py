"""Frames become what image networks read: over one background, cut around the object, resized, normalized.

A prediction and the video that it came from show the same thing at different scale and place, since the video's camera
is unknown. Both are cut by one square around their own union of alpha, so that neither scale nor place is scored.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from helix4d.core import ConfigError

MARGIN = 1.1
"""Side of the square, of the union box's longer side."""

_HAZE = 8
"""Alpha up to this counts as nothing, as where Helix4DBench is cut. Glass and smoke, which are far above, are seen."""


@dataclass(frozen=True)
class PixelStatistics:
    """What a network subtracts and divides by, RGB in [0, 1].

    Args:
        mean: of each channel.
        std: of each channel.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalize(self, pixels: Tensor) -> Tensor:
        """(…, 3, H, W) in [0, 1] → the same, normalized."""
        shape = (3, 1, 1)
        return (pixels - pixels.new_tensor(self.mean).view(shape)) / pixels.new_tensor(self.std).view(shape)


CLIP_PIXELS = PixelStatistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_PIXELS = PixelStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def cut_square(frames: np.ndarray, background: int = 255, margin: float = MARGIN) -> np.ndarray:
    """(T, H, W, 4) uint8 of straight alpha → (T, S, S, 3) uint8 over a gray `background`.

    The square is the same in all frames: around the union of their alpha, its side the longer side of that box times
    `margin`. What lies outside of the image is background. Frames without any object are not cut, only made square.

    Raises:
        ConfigError: if these are not frames with alpha.
    """
    if frames.ndim != 4 or frames.shape[-1] != 4 or frames.dtype != np.uint8:
        raise ConfigError(f"frames of shape {frames.shape} and type {frames.dtype}: expected (T, H, W, 4) uint8")
    height, width = frames.shape[1:3]
    seen = frames[..., 3].max(axis=0) > _HAZE
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    if len(rows):
        top, bottom, left, right = rows[0], rows[-1] + 1, columns[0], columns[-1] + 1
        side = int(np.ceil(max(bottom - top, right - left) * margin))
    else:
        top, bottom, left, right = 0, height, 0, width
        side = max(height, width)
    y, x = (int(top) + int(bottom) - side) // 2, (int(left) + int(right) - side) // 2
    # Copied into place rather than padded: the box may leave the image on any side.
    alpha = frames[..., 3:].astype(np.uint16)
    flat = ((frames[..., :3] * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)
    square = np.full((len(frames), side, side, 3), background, np.uint8)
    y0, y1, x0, x1 = max(y, 0), min(y + side, height), max(x, 0), min(x + side, width)
    square[:, y0 - y : y1 - y, x0 - x : x1 - x] = flat[:, y0:y1, x0:x1]
    return square


def resize_bicubic(image: np.ndarray, size: int) -> np.ndarray:
    """(H, W, 3) uint8 → (size, size, 3) uint8: the shorter side to `size` by PIL's bicubic, then the middle.

    As open_clip's and transformers' processors do, the latter checked in a test.
    """
    height, width = image.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    other = int(size * longer / shorter)
    shape = (size, other) if width <= height else (other, size)
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
    y, x = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[y : y + size, x : x + size]


def network_pixels(images: Sequence[np.ndarray] | np.ndarray, size: int, statistics: PixelStatistics) -> Tensor:
    """T of (H, W, 3) uint8 → (T, 3, size, size) float32, bicubic and normalized."""
    stacked = np.stack([resize_bicubic(image, size) for image in images])
    return statistics.normalize(torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255.0)
