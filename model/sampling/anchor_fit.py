"""Room to grow for the anchor: the base fills the cube with frame 0 alone, a clip needs the union of its frames.

In training all frames share the scale of the union over the clip. The pictures tell how much smaller frame 0 is than
that: the ratio of the boxes around their alphas. The anchor's mesh is shrunk by it and encoded again. Where in the cube
it should stand the pictures do not tell, so it stays in the middle.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from PIL import Image

from helix4d.core import ConfigError
from helix4d.model.conditioning.images import SAMPLING_ALPHA, union_box
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.voxelize import OVoxel, voxelize_clip
from helix4d.voxelize.mesh.baked_clip import baked_clip
from helix4d.voxelize.mesh.baking import bake_mesh

_TEXTURE_SIZE = 1024


def fit_ratio(frames: Sequence[Image.Image], threshold: int = SAMPLING_ALPHA) -> float:
    """How large frame 0 is beside all frames: its alpha's box by the union's, longest sides, in (0, 1]."""
    sides = []
    for chosen in (frames[:1], frames):
        left, top, right, bottom = union_box(chosen, threshold)
        sides.append(max(right - left, bottom - top, 1))
    return min(sides[0] / sides[1], 1.0)


def shrink_frame(frame: GeneratedFrame, ratio: float) -> OVoxel:
    """A frame's surface at `ratio` of its size about the origin, as an O-Voxel of the same resolution.

    Raises:
        ConfigError: if the ratio is not in (0, 1], or nothing is left of the surface.
    """
    if not 0 < ratio <= 1:
        raise ConfigError(f"an anchor cannot be shrunk to {ratio} of its size")
    mesh = bake_mesh(frame.vertices, frame.faces, frame.ovoxel, _TEXTURE_SIZE)
    # Decoded vertices may leave their voxels, and those at the border the cube.
    inside = np.clip(mesh.vertices * np.float32(ratio), -0.5, 0.5)
    (ovoxel,) = voxelize_clip(baked_clip([replace(mesh, vertices=inside)], 1.0), frame.ovoxel.resolution)
    if not len(ovoxel):
        raise ConfigError(f"at {ratio:.3f} of its size the anchor is smaller than a voxel")
    return ovoxel
