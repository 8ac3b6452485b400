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
    """An animation of a file: its index, its name, and the times of its first and last key in seconds."""

    index: int
    name: str
    start: float
    end: float


def choose(clips: list[ClipInfo], clip: str | int, motion_of: Callable[[int], float]) -> list[int]:
    """Return the indices of the clips that are selected.

    If several clips move most, the first is selected; if no clip moves at all, the longest.

    Args:
        clips: clips of the file, at least one.
        clip: "all", "first", "longest", "most-moving", an index, or a name.
        motion_of: measures the motion of the clip with a given index.

    Raises:
        AssetError: no_animation if the file has no such clip.
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
        raise AssetError(ReasonCode.NO_ANIMATION, f"no clip {clip!r}: choose one of {len(clips)} ({names})")
    return named[:1]


def _longest(clips: list[ClipInfo]) -> ClipInfo:
    return max(clips, key=lambda info: (info.end - info.start, -info.index))
