"""Which moments of an animation become the frames of a clip: all of it, or windows at a stated rate."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np

from helix4d.core.arrays import Float64Array

Static = Literal["never", "also", "only"]

_MOST_PROBED = 64
"""Maximum number of windows of an animation whose motion is measured; if there are more, evenly spaced ones are."""
_PROBE_FRAMES = 5
"""Frames of a window at which its motion is measured."""


@dataclass(frozen=True)
class Sampling:
    """How an animation is sampled.

    Attributes:
        frames: frames of a clip, T.
        fps: frames per second of a window; None samples T frames evenly over the whole animation, both ends included.
        windows: number of windows of an animation, at most.
        stride: frames from the start of a window to the start of the next; None for T, so that none share a frame.
        static: "never" for animations; "also" for the rest pose of files without an animation, as clips of one frame;
            "only" for clips of one frame of all files: the first one of the animation, or the rest pose.
    """

    frames: int = 16
    fps: float | None = None
    windows: int = 1
    stride: int | None = None
    static: Static = "never"

    def __post_init__(self) -> None:
        if self.frames < 1:
            raise ValueError(f"frames must be at least 1, found {self.frames}")
        if self.fps is not None and not 0.0 < self.fps < float("inf"):
            raise ValueError(f"fps must be greater than 0, found {self.fps}")
        if self.windows < 1 or (self.stride is not None and self.stride < 1):
            raise ValueError(f"windows and stride must be at least 1, found {self.windows} and {self.stride}")


@dataclass(frozen=True, eq=False)
class Moments:
    """The moments of one clip.

    Attributes:
        times: (T,) float64 seconds, ascending.
        window: index of the window among all windows of the animation; None for the whole animation.
    """

    times: Float64Array
    window: int | None = None


def moments_of(
    sampling: Sampling, start: float, end: float, motion_at: Callable[[Float64Array], float]
) -> list[Moments]:
    """Return the moments to sample of an animation, in order of time.

    Windows start every `stride` frames, from the first key on, and lie inside the animation. Those that move most are
    chosen, earlier ones first where they move alike; of more than 64, only 64 evenly spaced ones are compared. An
    animation that is shorter than a window is sampled evenly as a whole.

    Args:
        sampling: how to sample.
        start: first key of the animation in seconds.
        end: last key.
        motion_at: measures the motion at (N,) times.
    """
    if sampling.fps is None:
        return [Moments(np.linspace(start, end, sampling.frames))]
    length = (sampling.frames - 1) / sampling.fps
    spare = end - start - length
    if spare < -1e-9 * max(length, 1.0):
        return [Moments(np.linspace(start, end, sampling.frames), 0)]
    step = (sampling.frames if sampling.stride is None else sampling.stride) / sampling.fps
    count = int(np.floor(max(spare, 0.0) / step + 1e-9)) + 1
    within = np.arange(sampling.frames) / sampling.fps
    probed = np.linspace(0.0, length, min(sampling.frames, _PROBE_FRAMES))
    chosen = _most_moving(count, sampling.windows, lambda number: motion_at(start + number * step + probed))
    return [Moments(np.minimum(start + number * step + within, end), number) for number in chosen]


def _most_moving(count: int, wanted: int, motion_of: Callable[[int], float]) -> list[int]:
    """Return the numbers, ascending, of the `wanted` windows out of `count` that move most."""
    if count <= wanted:
        return list(range(count))
    probed = np.unique(np.linspace(0, count - 1, max(min(count, _MOST_PROBED), wanted)).round().astype(int)).tolist()
    motions = {number: motion_of(number) for number in probed}
    return sorted(sorted(probed, key=lambda number: (-motions[number], number))[:wanted])
