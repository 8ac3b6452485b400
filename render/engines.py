"""Which renderer draws: both take the same call and yield the same images."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, Protocol

from assets import Clip
from core import ConfigError
from render.cameras import Camera
from render.environment import NO_MAPS, EnvironmentMap
from render.images import RenderedImage
from render.lighting import Lights
from render.settings import RenderSettings

EngineName = Literal["cycles", "raster"]


class RenderViews(Protocol):
    """`render.blender.render_views`."""

    def __call__(
        self,
        clip: Clip,
        cameras: Sequence[Camera],
        lights: Sequence[Lights],
        settings: RenderSettings | None = None,
        frames: Sequence[int] | None = None,
        maps: Mapping[str, EnvironmentMap] = NO_MAPS,
    ) -> Iterator[RenderedImage]: ...


def load_engine(name: EngineName) -> RenderViews:
    """An engine's `render_views`; Blender, or the OpenGL library, is imported no earlier than here.

    Raises:
        ConfigError: if there is no such engine, or its library is not installed.
    """
    if name == "cycles":
        from render.blender import render_views as cycles

        return cycles
    if name != "raster":
        raise ConfigError(f"engine {name!r}: expected cycles or raster")
    try:
        from render.raster import render_views as raster
    except ModuleNotFoundError as error:
        raise ConfigError(f"engine raster: {error}; python -m pip install 'helix4d[raster]'") from error
    return raster
