"""Whether a baked clip is wanted: the reasons that filter a well-formed asset, measured on what was baked."""

from __future__ import annotations

from helix4d.assets.clip import Clip
from helix4d.assets.surface import motion, size, solid
from helix4d.core import AssetError, ReasonCode

MIN_MOTION = 0.01
MIN_SIZE = 0.05
"""A cube of about ten voxels at 512³."""


def check_clip(clip: Clip, min_motion: float = MIN_MOTION, min_size: float = MIN_SIZE) -> None:
    """Raise if the clip should be filtered.

    Args:
        clip: a baked clip, normalized or not (every measure is relative).
        min_motion: least `motion`, as a share of the union diagonal.
        min_size: least square root of the surface area in the best frame, as a share of the union diagonal.

    Raises:
        AssetError: zero_duration, empty_first_frame, object_too_small_in_union_bbox or no_motion, in this order.
    """
    if len(clip.times) > 1 and clip.times[-1] <= clip.times[0]:
        raise AssetError(ReasonCode.ZERO_DURATION, f"clip {clip.name!r} has its first and last key at the same time")
    if not solid(clip.frames[0]).any():
        raise AssetError(ReasonCode.EMPTY_FIRST_FRAME, f"clip {clip.name!r} shows nothing in its first frame")
    found = size(clip)
    if found < min_size:
        raise AssetError(
            ReasonCode.OBJECT_TOO_SMALL_IN_UNION_BBOX,
            f"clip {clip.name!r} travels so far that the object is {found:.2g} of the box around it, least {min_size}",
        )
    moved = motion(clip)
    if moved < min_motion:
        raise AssetError(ReasonCode.NO_MOTION, f"clip {clip.name!r} moves by {moved:.2g}, least {min_motion}")
