"""Shrink the anchor to make room for objects that grow: the base scales frame 0 to fill the whole cube.

In training all frames share one scale, that of the union over the clip. How much smaller frame 0 is than the union is
estimated from the images, as the ratio of the boxes around their alphas. The anchor's mesh is shrunk by this ratio and
encoded again. The images do not determine its position in the cube, so it stays centered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from helix4d.core import ConfigError
from helix4d.model.conditioning.images import union_box
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.voxelize import OVoxel, voxelize_clip
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import bake_mesh

_TEXTURE_SIZE = 1024


def fit_ratio(frames: Sequence[Image.Image], threshold: int) -> float:
    """Return the size of frame 0 relative to all frames: the ratio of the alpha boxes' longest sides, in (0, 1].

    `threshold` is the alpha above which a pixel belongs to the object.
    """
    sides = []
    for group in (frames[:1], frames):
        left, top, right, bottom = union_box(group, threshold)
        sides.append(max(right - left, bottom - top, 1))
    return min(sides[0] / sides[1], 1.0)


def shrink_frame(frame: GeneratedFrame, ratio: float) -> OVoxel:
    """Scale a frame's surface by `ratio` about the origin and return it as an O-Voxel of the same resolution.

    Raises:
        ConfigError: if the ratio is not in (0, 1], or the scaled surface is empty.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"anchor scale is {ratio}: must be in (0, 1]")
    mesh = bake_mesh(frame.vertices, frame.faces, frame.ovoxel, _TEXTURE_SIZE)
    # Decoded vertices may lie outside their voxels and, at the border, outside the cube.
    inside = np.clip(mesh.vertices * np.float32(ratio), -0.5, 0.5)
    (ovoxel,) = voxelize_clip(baked_clip([replace(mesh, vertices=inside)], 1.0), frame.ovoxel.resolution)
    if not len(ovoxel):
        raise ConfigError(f"scaled by {ratio:.3f}, the anchor is smaller than a voxel")
    return ovoxel
