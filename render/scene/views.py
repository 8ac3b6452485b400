"""The arguments of a render engine, checked before the engine starts."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import EnvironmentMap, check_maps
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings


@dataclass(frozen=True, eq=False)
class Views:
    """The arguments of every engine's `render_views`.

    Attributes:
        clip: inside [-0.5, 0.5]³, Z up.
        cameras: one per view, of `settings.image_size` pixels.
        lights: one per view.
        settings: the same for all images.
        frames: indices of the frames to render, in this order.
        maps: sha256 -> map, for the lights that name one.

    Raises:
        ConfigError: on construction, if they do not fit together.
    """

    clip: Clip
    cameras: Sequence[Camera]
    lights: Sequence[Lights]
    settings: RenderSettings
    frames: Sequence[int]
    maps: Mapping[str, EnvironmentMap]

    def __post_init__(self) -> None:
        if len(self.cameras) != len(self.lights):
            raise ConfigError(
                f"{len(self.cameras)} cameras and {len(self.lights)} lights: expected one of each per view"
            )
        for view, camera in enumerate(self.cameras):
            if camera.image_size != self.settings.image_size:
                raise ConfigError(
                    f"view {view}: the camera has image_size {camera.image_size}, "
                    f"the settings have {self.settings.image_size}"
                )
        for frame in self.frames:
            if not 0 <= frame < len(self.clip.frames):
                raise ConfigError(f"frame {frame}: the clip has frames 0 to {len(self.clip.frames) - 1}")
        check_maps(self.lights, self.maps)

    @classmethod
    def of(
        cls,
        clip: Clip,
        cameras: Sequence[Camera],
        lights: Sequence[Lights],
        settings: RenderSettings | None,
        frames: Sequence[int] | None,
        maps: Mapping[str, EnvironmentMap],
    ) -> Views:
        """Return the views with default settings where `settings` is None, and all frames where `frames` is None.

        Settings that depend on the clip's materials are resolved.
        """
        chosen = range(len(clip.frames)) if frames is None else frames
        resolved = (RenderSettings() if settings is None else settings).for_clip(clip)
        return cls(clip, cameras, lights, resolved, chosen, maps)

    @property
    def lamps(self) -> int:
        """The largest number of point lights in any view."""
        return max((len(light.points) for light in self.lights), default=0)
