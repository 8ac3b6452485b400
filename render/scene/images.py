"""Rendered images, and their conversion from linear premultiplied floats to bytes with straight alpha."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np

from helix4d.render.scene.view_transforms import ViewTransform, to_display, white

_WHITE_MARGIN = 1.001  # an unlit white surface is white up to rounding


class Layers(NamedTuple):
    """A view as an engine renders it.

    Attributes:
        colors: channel name -> (H, W) float32, linear, premultiplied: R, G, B and the engine's own alpha A.
        depth: (H, W) float32, or None without passes; see `helix4d.render.scene.passes`.
        normal: (H, W, 3) float32, or None without passes.
    """

    colors: Mapping[str, np.ndarray]
    depth: np.ndarray | None = None
    normal: np.ndarray | None = None


@dataclass(frozen=True, eq=False)
class RenderedImage:
    """One view of one frame.

    Attributes:
        view: index of the camera.
        frame: index of the clip's frame.
        rgba: (H, W, 4) uint8, sRGB under the view transform of the settings, straight alpha, first row on top. Color
            is 0 where alpha is 0.
        clipped: share of the visible pixels in which a channel is brighter than the view transform's white.
        depth: (H, W) float32, or None without passes; see `helix4d.render.scene.passes`.
        normal: (H, W, 3) float32, or None without passes.
    """

    view: int
    frame: int
    rgba: np.ndarray
    clipped: float = 0.0
    depth: np.ndarray | None = None
    normal: np.ndarray | None = None


def to_rgba(
    channels: Mapping[str, np.ndarray], coverage: np.ndarray | None = None, transform: ViewTransform = "standard"
) -> tuple[np.ndarray, float]:
    """Convert a render to straight sRGB bytes, with exact alpha where it is available.

    A pixel's premultiplied color is divided by the share of its paths that hit something. That share is the noisy
    alpha, which `coverage` replaces. Where no path hit a surface that covers a little of the pixel, the color comes
    from the eight surrounding pixels.

    Args:
        channels: (H, W) linear premultiplied R, G, B and the renderer's own alpha A.
        coverage: (H, W) exact alpha, or None to keep the renderer's alpha.
        transform: view transform from linear to displayed values.

    Returns:
        (H, W, 4) uint8, color 0 where alpha rounds to 0; and the share of the other pixels in which a channel is
        brighter than the view transform's white.
    """
    light = np.stack([channels[name] for name in "RGBA"], axis=-1)
    light[..., 3] = np.clip(light[..., 3], 0.0, 1.0)
    alpha = np.rint(255.0 * (light[..., 3] if coverage is None else coverage)).astype(np.uint8)
    shown = alpha > 0  # most of an image is empty, and the transfer function is the expensive part
    missed = shown & (light[..., 3] <= 0.0)
    light[missed] = _sum_around(light, *np.nonzero(missed))
    seen = light[shown]
    color = seen[:, :3] / np.where(seen[:, 3:] > 0.0, seen[:, 3:], 1.0)
    rgba = np.zeros((*alpha.shape, 4), np.uint8)
    rgba[shown, :3] = np.rint(255.0 * to_display(color, transform))
    rgba[..., 3] = alpha
    beyond = color.max(axis=1, initial=0.0) > white(transform) * _WHITE_MARGIN
    return rgba, float(beyond.mean()) if len(beyond) else 0.0


def _sum_around(image: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """(N, C) sums over the 3×3 neighborhoods of N pixels of an (H, W, C) image, zero outside it."""
    padded = np.pad(image, [(1, 1), (1, 1), (0, 0)])
    return np.asarray(sum(padded[rows + i, columns + j] for i in range(3) for j in range(3)))
