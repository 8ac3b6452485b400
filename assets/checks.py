"""Rejects valid clips that are unsuitable: no duration, nothing visible, too small, or no change."""

from __future__ import annotations

from helix4d.assets.appearance import appearance_change
from helix4d.assets.clip import Clip
from helix4d.assets.surface import motion, size, solid
from helix4d.core import AssetError, ReasonCode

MIN_MOTION = 0.01
MIN_SIZE = 0.05
"""Corresponds to a cube of about ten voxels at 512³."""


def check_clip(clip: Clip, min_motion: float = MIN_MOTION, min_size: float = MIN_SIZE) -> None:
    """Raise if a clip should be filtered.

    Args:
        clip: baked clip, normalized or not (all measures are relative).
        min_motion: minimum of the larger of `motion`, as a fraction of the union diagonal, and `appearance_change`.
        min_size: minimum square root of the surface area in the best frame, as a fraction of the union diagonal.

    Raises:
        AssetError: zero_duration, empty_first_frame, object_too_small_in_union_bbox or no_motion, in this order.
    """
    if len(clip.times) > 1 and clip.times[-1] <= clip.times[0]:
        raise AssetError(ReasonCode.ZERO_DURATION, f"clip {clip.name!r}: the first and last key have the same time")
    if not solid(clip.frames[0]).any():
        raise AssetError(ReasonCode.EMPTY_FIRST_FRAME, f"clip {clip.name!r}: the first frame has no visible surface")
    relative_size = size(clip)
    if relative_size < min_size:
        raise AssetError(
            ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX,
            f"clip {clip.name!r}: the object is too small relative to the space that it moves through "
            f"({relative_size:.2g} of the diagonal, minimum {min_size})",
        )
    relative_motion = motion(clip)
    if max(relative_motion, appearance_change(clip)) < min_motion:
        raise AssetError(
            ReasonCode.NO_MOTION,
            f"clip {clip.name!r}: moves too little ({relative_motion:.2g} of the diagonal, minimum {min_motion})",
        )
