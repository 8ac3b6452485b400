"""Numbers that tell a useless video: how much it shows, how its outline flickers, how far its start left the still."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np

from helix4d.bench_builder.frames import Pixels, Square, crop_frames

_DIGITS = 6


@dataclass(frozen=True)
class Measures:
    """Of one video.

    Attributes:
        coverage: share of each frame's pixels with alpha over one half.
        flicker: how far the covered area strays from the mean of the frames before and after, as a mean over all
            frames with two neighbors, divided by the mean area; growing or shrinking evenly gives 0.
        drift: mean difference of the first frame, over the background, from the still as the model saw it, from 0 to
            1, where either shows anything.
    """

    coverage: tuple[float, ...]
    flicker: float
    drift: float

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return {"coverage": list(self.coverage), "flicker": self.flicker, "drift": self.drift}


def measure(frames: Pixels, still: Pixels, square: Square, background: tuple[int, ...]) -> Measures:
    """Measure finished frames.

    Args:
        frames: RGBA, (T, S, S, 4).
        still: the padded still, RGB, as the model saw it.
        square: what was cut from the model's frames.
        background: of the padded still.
    """
    covered = coverage(frames[..., 3])
    return Measures(covered, flicker(covered), drift(frames[0], still, square, background))


def coverage(masks: Pixels) -> tuple[float, ...]:
    """(T, H, W) to a share per frame."""
    return tuple(round(float(np.mean(mask > 127)), _DIGITS) for mask in masks)


def flicker(areas: tuple[float, ...]) -> float:
    """The definition of `Measures.flicker`; 0 for fewer than three frames, or where there is nothing."""
    area = np.asarray(areas)
    if len(area) < 3 or not area.any():
        return 0.0
    strays = np.abs(area[1:-1] - (area[:-2] + area[2:]) / 2)
    return round(float(strays.mean() / area.mean()), _DIGITS)


def drift(first: Pixels, still: Pixels, square: Square, background: tuple[int, ...]) -> float:
    """The definition of `Measures.drift`."""
    opaque = np.concatenate([still, np.full((*still.shape[:2], 1), 255, np.uint8)], axis=2)
    wanted = over(crop_frames(opaque[None], square, first.shape[0])[0], background)
    difference = np.abs(over(first, background) - wanted).mean(axis=2)
    shows = (first[..., 3] > 0) | (np.abs(wanted - np.asarray(background)).max(axis=2) > 1)
    return round(float(difference[shows].mean()) / 255, _DIGITS) if shows.any() else 0.0


def over(rgba: Pixels, background: tuple[int, ...]) -> np.ndarray:
    """Straight alpha over a color: float (H, W, 3) from 0 to 255."""
    alpha = rgba[..., 3:].astype(np.float64) / 255
    return np.asarray(rgba[..., :3] * alpha + np.asarray(background, np.float64) * (1 - alpha))
