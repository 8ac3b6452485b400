"""From Cycles' linear premultiplied floats to what is stored: sRGB bytes with straight alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """One view of one frame.

    Attributes:
        view: index of the camera.
        frame: index of the clip's frame.
        rgba: (H, W, 4) uint8, sRGB under Blender's Standard view transform, straight alpha, first row on top. Color is
            0 where alpha is 0.
    """

    view: int
    frame: int
    rgba: np.ndarray


def to_rgba(channels: Mapping[str, np.ndarray]) -> np.ndarray:
    """(H, W, 4) uint8 from (H, W) linear premultiplied channels R, G, B and coverage A."""
    alpha = np.clip(channels["A"], 0.0, 1.0)
    premultiplied = np.stack([channels["R"], channels["G"], channels["B"]], axis=-1)
    color = premultiplied / np.where(alpha > 0.0, alpha, 1.0)[..., None]
    rgba = np.empty((*alpha.shape, 4), np.uint8)
    rgba[..., 3] = np.rint(255.0 * alpha)
    rgba[..., :3] = np.rint(255.0 * linear_to_srgb(color)) * (rgba[..., 3:] > 0)
    return rgba


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1) on values clipped to [0, 1]."""
    clipped = np.clip(linear, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * np.power(clipped, 1.0 / 2.4) - 0.055)
