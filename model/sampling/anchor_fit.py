"""Shrink the anchor to make room for objects that grow: the base scales frame 0 to fill the whole cube.

In training all frames share one scale, that of the union over the clip. How much smaller frame 0 is than the union is
estimated from the images, as the ratio of the boxes around their alphas. The anchor's surface is shrunk by this ratio
and encoded again (`helix4d.model.sampling.anchor`). The images do not determine its position in the cube, so it stays
centered.
"""

from __future__ import annotations

from collections.abc import Sequence

from PIL import Image

from helix4d.model.conditioning.images import union_box


def fit_ratio(frames: Sequence[Image.Image], threshold: int) -> float:
    """Return the size of frame 0 relative to all frames: the ratio of the alpha boxes' longest sides, in (0, 1].

    `threshold` is the alpha above which a pixel belongs to the object.
    """
    sides = []
    for group in (frames[:1], frames):
        left, top, right, bottom = union_box(group, threshold)
        sides.append(max(right - left, bottom - top, 1))
    return min(sides[0] / sides[1], 1.0)
