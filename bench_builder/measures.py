"""Measures that expose a useless video: how much it shows, flicker of its outline, and drift from the still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helix4d.bench_builder.frames import Pixels, Square, crop_frames

_DIGITS = 6


@dataclass(frozen=True)
class Measures:
    """Measures of one video.

    Attributes:
        coverage: share of pixels with alpha over one half, per frame.
        flicker: deviation of the covered area from the mean of the two neighboring frames, averaged over all frames
            with two neighbors and divided by the mean area; 0 for uniform growth.
        drift: mean difference, from 0 to 1, between the first frame over the background and the padded still, where
            either shows anything.
    """

    coverage: tuple[float, ...]
    flicker: float
    drift: float

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return {"coverage": list(self.coverage), "flicker": self.flicker, "drift": self.drift}


def measure(frames: Pixels, still: Pixels, square: Square, background: tuple[int, ...]) -> Measures:
    """Measure finished frames.

    Args:
        frames: RGBA frames, (T, S, S, 4).
        still: padded still, RGB, (H, W, 3).
        square: square that the generated frames were cropped to.
        background: background color of the padded still.
    """
    covered = coverage(frames[..., 3])
    return Measures(covered, flicker(covered), drift(frames[0], still, square, background))


def coverage(masks: Pixels) -> tuple[float, ...]:
    """`Measures.coverage` of alpha (T, H, W)."""
    return tuple(round(float(np.mean(mask > 127)), _DIGITS) for mask in masks)


def flicker(areas: tuple[float, ...]) -> float:
    """`Measures.flicker` of the coverage per frame; 0 for fewer than three frames or empty ones."""
    area = np.asarray(areas)
    if len(area) < 3 or not area.any():
        return 0.0
    deviations = np.abs(area[1:-1] - (area[:-2] + area[2:]) / 2)
    return round(float(deviations.mean() / area.mean()), _DIGITS)


def drift(first: Pixels, still: Pixels, square: Square, background: tuple[int, ...]) -> float:
    """`Measures.drift` of the first frame."""
    opaque = np.concatenate([still, np.full((*still.shape[:2], 1), 255, np.uint8)], axis=2)
    expected = over(crop_frames(opaque[None], square, first.shape[0])[0], background)
    difference = np.abs(over(first, background) - expected).mean(axis=2)
    visible = (first[..., 3] > 0) | (np.abs(expected - np.asarray(background)).max(axis=2) > 1)
    return round(float(difference[visible].mean()) / 255, _DIGITS) if visible.any() else 0.0


def over(rgba: Pixels, background: tuple[int, ...]) -> np.ndarray:
    """Composite RGBA (H, W, 4) over a color: float (H, W, 3) from 0 to 255."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.asarray(rgba[..., :3] * alpha + np.asarray(background, np.float64) * (1 - alpha))
