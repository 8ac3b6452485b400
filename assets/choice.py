"""Which animations of a file to bake."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from helix4d.core import AssetError, ReasonCode

MOST_MOVING = "most-moving"
LONGEST = "longest"
FIRST = "first"
ALL = "all"
_TIE = 1e-6
"""Clips whose motion differs by less than this share count as equal, and the first of them is taken."""


@dataclass(frozen=True)
class ClipInfo:
    """An animation of a file: its index, name and the times (seconds) of its first and last key."""

    index: int
    name: str
    start: float
    end: float


def choose(clips: list[ClipInfo], clip: str | int, motion_of: Callable[[int], float]) -> list[int]:
    """Indices of the clips that `clip` means; `motion_of` measures the motion of one.

    Ties go to the longer clip when nothing moves, else to the first.

    Raises:
        AssetError: no_animation for a clip that the file does not have: it is in order, but not what was asked for.
    """
    if clip == ALL:
        return [info.index for info in clips]
    if clip == FIRST:
        return [clips[0].index]
    if clip == LONGEST:
        return [_longest(clips).index]
    if clip == MOST_MOVING:
        if len(clips) == 1:
            return [clips[0].index]
        motions = [motion_of(info.index) for info in clips]
        most = max(motions)
        if most <= 0:
            return [_longest(clips).index]
        return [next(info.index for info, value in zip(clips, motions, strict=True) if value >= most * (1 - _TIE))]
    named = [info.index for info in clips if clip in (info.index, info.name)]
    if not named:
        names = ", ".join(repr(info.name) for info in clips[:10])
        raise AssetError(ReasonCode.NO_ANIMATION, f"no clip {clip!r}; there are {len(clips)}: {names}")
    return named[:1]


def _longest(clips: list[ClipInfo]) -> ClipInfo:
    return max(clips, key=lambda info: (info.end - info.start, -info.index))
