"""A clip played twice on white while the camera circles it once."""

from __future__ import annotations

import io
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from PIL import Image

from helix4d.assets import Clip
from helix4d.render.engines import EngineName, load_engine
from helix4d.render.scene.cameras import orbit_camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings

_TURNS = 2
_ELEVATION_DEG = 15.0
_LIGHT = Lights((), 1.5)


def turntable(
    clip: Clip,
    settings: RenderSettings,
    progress: Callable[[int, int], None] | None = None,
    engine: EngineName = "cycles",
    lights: Lights = _LIGHT,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> list[Image.Image]:
    """Render two RGB images per frame, starting from the front.

    Args:
        clip: inside [-0.5, 0.5]³, Z up.
        settings: the render settings.
        progress: called with the number of finished frames and the total.
        engine: name of the engine.
        lights: the same for all images.
        maps: sha256 -> environment map, if the lights name one.
    """
    render_views = load_engine(engine)
    count, size = len(clip.frames), settings.image_size
    pictures: dict[int, Image.Image] = {}
    for frame in range(count):
        places = [frame + turn * count for turn in range(_TURNS)]
        cameras = [orbit_camera(-90 + 360 * place / (_TURNS * count), _ELEVATION_DEG, size) for place in places]
        for image in render_views(clip, cameras, [lights] * _TURNS, settings, [frame], maps):
            white = Image.new("RGBA", (size, size), "white")
            white.alpha_composite(Image.fromarray(image.rgba, "RGBA"))
            pictures[places[image.view]] = white.convert("RGB")
        if progress is not None:
            progress(frame + 1, count)
    return [pictures[place] for place in sorted(pictures)]


def animation(images: Sequence[Image.Image], fps: float) -> bytes:
    """Encode images of one size as a looping, lossless, animated WebP."""
    stream = io.BytesIO()
    options: dict[str, Any] = {"duration": round(1000 / fps), "loop": 0, "lossless": True, "exact": True}
    images[0].save(stream, "WEBP", save_all=True, append_images=list(images[1:]), **options)
    return stream.getvalue()
