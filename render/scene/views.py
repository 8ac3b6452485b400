"""What every engine's `render_views` shares: the checks at its door, and the image of a frame without triangles."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.images import RenderedImage
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings


def check_views(
    clip: Clip, cameras: Sequence[Camera], lights: Sequence[Lights], settings: RenderSettings, frames: Sequence[int]
) -> None:
    """Refuse what does not fit together.

    Raises:
        ConfigError: if cameras, lights, settings and frames do not.
    """
    if len(cameras) != len(lights):
        raise ConfigError(f"{len(cameras)} cameras and {len(lights)} lights: expected one of each per view")
    for view, camera in enumerate(cameras):
        if camera.image_size != settings.image_size:
            raise ConfigError(
                f"view {view} is made for {camera.image_size} pixels, the settings for {settings.image_size}"
            )
    for frame in frames:
        if not 0 <= frame < len(clip.frames):
            raise ConfigError(f"frame {frame}: the clip has frames 0 to {len(clip.frames) - 1}")


def empty_image(view: int, frame: int, settings: RenderSettings) -> RenderedImage:
    """Nothing, fully transparent."""
    shape = (settings.image_size, settings.image_size)
    rgba = np.zeros((*shape, 4), np.uint8)
    if not settings.passes:
        return RenderedImage(view, frame, rgba)
    return RenderedImage(view, frame, rgba, np.zeros(shape, np.float32), np.zeros((*shape, 3), np.float32))
