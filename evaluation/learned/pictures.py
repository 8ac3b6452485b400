"""Frames become the input of image networks: composited, cropped around the object, resized and normalized.

The camera of an input video is unknown, so a prediction shows the object at another scale and position. Each is cropped
to a square around the union of its own alpha, so that neither scale nor position affects the score.
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
"""Side of the square, relative to the longer side of the union box."""

_HAZE = 8
"""Alpha up to this counts as background, as in Helix4DBench. Glass and smoke are far above it."""


@dataclass(frozen=True)
class PixelStatistics:
    """Normalization of a network's input, for RGB in [0, 1].

    Args:
        mean: mean of each channel.
        std: standard deviation of each channel.
    """

    mean: tuple[float, float, float]
    std: tuple[float, float, float]

    def normalize(self, pixels: Tensor) -> Tensor:
        """Normalize (…, 3, H, W) pixels in [0, 1]."""
        shape = (3, 1, 1)
        return (pixels - pixels.new_tensor(self.mean).view(shape)) / pixels.new_tensor(self.std).view(shape)


CLIP_PIXELS = PixelStatistics((0.48145466, 0.4578275, 0.40821073), (0.26862954, 0.26130258, 0.27577711))
IMAGENET_PIXELS = PixelStatistics((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))


def cut_square(frames: np.ndarray, background: int = 255, margin: float = MARGIN) -> np.ndarray:
    """Crop (T, H, W, 4) uint8 frames with straight alpha to (T, S, S, 3) uint8 over a gray `background`.

    All frames share one square around the union of their alpha, whose side is the longer side of that box times
    `margin`. Outside of the image it shows the background. Frames without any object are only padded to a square.

    Raises:
        ConfigError: if the array does not hold frames with alpha.
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
    # Copied into place, since the square may extend beyond the image on any side.
    alpha = frames[..., 3:].astype(np.uint16)
    flat = ((frames[..., :3] * alpha + background * (255 - alpha) + 127) // 255).astype(np.uint8)
    square = np.full((len(frames), side, side, 3), background, np.uint8)
    y0, y1, x0, x1 = max(y, 0), min(y + side, height), max(x, 0), min(x + side, width)
    square[:, y0 - y : y1 - y, x0 - x : x1 - x] = flat[:, y0:y1, x0:x1]
    return square


def resize_bicubic(image: np.ndarray, size: int) -> np.ndarray:
    """Resize the shorter side of (H, W, 3) uint8 to `size` with PIL's bicubic filter, then crop the center.

    Equal to the processors of open_clip and transformers; a test compares it to the latter.
    """
    height, width = image.shape[:2]
    shorter, longer = min(height, width), max(height, width)
    other = int(size * longer / shorter)
    shape = (size, other) if width <= height else (other, size)
    resized = np.asarray(Image.fromarray(image).resize(shape, Image.Resampling.BICUBIC))
    y, x = (resized.shape[0] - size) // 2, (resized.shape[1] - size) // 2
    return resized[y : y + size, x : x + size]


def network_pixels(images: Sequence[np.ndarray] | np.ndarray, size: int, statistics: PixelStatistics) -> Tensor:
    """T images (H, W, 3) uint8 → (T, 3, size, size) float32, resized and normalized."""
    stacked = np.stack([resize_bicubic(image, size) for image in images])
    return statistics.normalize(torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 255.0)
