"""Color spaces of images, and images that are combined from the channels of several."""

from __future__ import annotations

import numpy as np
from PIL import Image

from helix4d.core.arrays import Float64Array, UInt8Array


def to_linear(values: Float64Array) -> Float64Array:
    """Convert sRGB values in [0, 1] to linear ones."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def to_srgb(values: Float64Array) -> Float64Array:
    """Convert linear values, clipped to [0, 1], to sRGB."""
    clipped = np.clip(values, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * clipped ** (1 / 2.4) - 0.055)


def mapped(channel: UInt8Array, table: Float64Array) -> UInt8Array:
    """Apply a (256,) table of values in [0, 1] to an (H, W) uint8 channel, rounding to uint8."""
    return np.rint(255 * np.clip(table, 0.0, 1.0)).astype(np.uint8)[channel]


def combined(channels: list[UInt8Array | None]) -> UInt8Array:
    """Return the (H, W, 4) image of four (h, w) channels, resized to the largest; 255 where a channel is None."""
    height, width = max((c.shape for c in channels if c is not None), key=lambda shape: shape[0] * shape[1])
    image = np.full((height, width, 4), 255, np.uint8)
    for number, channel in enumerate(channels):
        if channel is None:
            continue
        if channel.shape != (height, width):
            resized = Image.fromarray(channel).resize((width, height), Image.Resampling.BILINEAR)
            channel = np.asarray(resized)
        image[..., number] = channel
    return image
