"""Selects the animations of a file to bake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helix4d.core import AssetError, ReasonCode

MOST_MOVING = "most-moving"
LONGEST = "longest"
FIRST = "first"
ALL = "all"
_TIE = 1e-6
"""Clips whose motion differs by less than this fraction are tied; the first of them is chosen."""


@dataclass(frozen=True)
class ClipInfo:
    """An animation of a file.

    Attributes:
        index: index in the file.
        name: name in the file.
        start, end: times of its first and last pose in seconds; 0 if it is invalid.
        error: why the animation is invalid, None if it can be baked.
    """

    index: int
    name: str
    start: float
    end: float
    error: AssetError | None = None


def choose(clips: list[ClipInfo], clip: str | int, motion_of: Callable[[int], float]) -> list[int]:
    """Return the indices of the selected clips.

    For "most-moving", the first of tied clips is selected, and the longest clip if none moves. Invalid clips are left
    out unless they are selected by index or name.

    Args:
        clips: clips of the file; at least one.
        clip: "all", "first", "longest", "most-moving", an index, or a name.
        motion_of: measures the motion of the clip with a given index.

    Raises:
        AssetError: no_animation if the file has no such clip; the error of an invalid clip if it is selected by index
            or name, or if no clip is valid.
    """
    if clip not in (ALL, FIRST, LONGEST, MOST_MOVING):
        return [_named(clips, clip)]
    valid = [info for info in clips if info.error is None]
    if not valid and clips[0].error is not None:
        raise clips[0].error
    if clip == ALL:
        return [info.index for info in valid]
    if clip == FIRST:
        return [valid[0].index]
    if clip == LONGEST:
        return [_longest(valid).index]
    if len(valid) == 1:
        return [valid[0].index]
    motions = [motion_of(info.index) for info in valid]
    most = max(motions)
    if most <= 0:
        return [_longest(valid).index]
    return [next(info.index for info, value in zip(valid, motions, strict=True) if value >= most * (1 - _TIE))]


def _named(clips: list[ClipInfo], clip: str | int) -> int:
    named = [info for info in clips if clip in (info.index, info.name)]
    if not named:
        names = ", ".join(repr(info.name) for info in clips[:10])
        raise AssetError(ReasonCode.NO_ANIMATION, f"no clip {clip!r}: choose one of {len(clips)} ({names})")
    if named[0].error is not None:
        raise named[0].error
    return named[0].index


def _longest(clips: list[ClipInfo]) -> ClipInfo:
    return max(clips, key=lambda info: (info.end - info.start, -info.index))
