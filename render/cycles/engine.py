"""Renders a Clip with Cycles, inside this process.

Frame-major: a frame's geometry is set once for all of its views. Every image depends on its clip, frame, camera, lights
and settings alone, so a view may be rendered on its own, after other clips, or on other numbers of threads.
"""

from __future__ import annotations

import contextlib
import os
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import OpenEXR

from helix4d.assets import Clip
from helix4d.core import Helix4DError
from helix4d.render.alpha.coverage import Coverage
from helix4d.render.cycles.devices import cycles_preferences, select_device
from helix4d.render.cycles.scene import ClipScene, clear
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap, check_maps
from helix4d.render.scene.images import RenderedImage, to_rgba
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.passes import split_layers
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import check_views, empty_image


class RenderError(Helix4DError):
    """Blender did not deliver an image; the message ends with what it printed."""


def render_views(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings | None = None,
    frames: Sequence[int] | None = None,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> Iterator[RenderedImage]:
    """Render every view of every frame, frame by frame.

    Blender holds one scene per process: finish (or close) one call before the next. Frames without a triangle come out
    fully transparent without a render.

    Args:
        clip: inside [-0.5, 0.5]³, Z up.
        cameras: one per view, of `settings.image_size` pixels.
        lights: one per view.
        settings: None for the defaults.
        frames: indices of the frames to render, in this order; None for all.
        maps: sha256 -> map, for the lights that name one.

    Yields:
        The images, all views of a frame before the next frame; `view` is the index into `cameras`.

    Raises:
        ConfigError: if cameras, lights and settings do not fit together, or the device is not there.
        RenderError: if Blender fails.
    """
    settings = RenderSettings() if settings is None else settings
    numbers = range(len(clip.frames)) if frames is None else frames
    check_views(clip, cameras, lights, settings, numbers)
    check_maps(lights, maps)
    return _render(clip, cameras, lights, settings, numbers, maps)


def _render(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings,
    frames: Sequence[int],
    maps: Mapping[str, EnvironmentMap],
) -> Iterator[RenderedImage]:
    scene: ClipScene | None = None
    coverage = Coverage(clip, settings.cull_back_faces) if settings.exact_alpha else None
    try:
        with tempfile.TemporaryDirectory(prefix="helix4d-render-") as folder:
            path = Path(folder) / "image.exr"
            for frame in frames:
                if not len(clip.frames[frame].faces):
                    yield from (empty_image(view, frame, settings) for view in range(len(cameras)))
                    continue
                if scene is None:
                    scene = ClipScene(clip, max(len(light.points) for light in lights), settings.cull_back_faces, maps)
                    configure(scene.scene, settings)
                    _set_output(scene.scene, settings, path)
                scene.set_frame(frame)
                for view, (camera, view_lights) in enumerate(zip(cameras, lights, strict=True)):
                    scene.set_view(camera, view_lights)
                    alpha = None if coverage is None else coverage.alpha(frame, camera)
                    channels = _render_once(path)
                    if settings.passes:
                        colors, depth, normal = split_layers(channels)
                        yield RenderedImage(view, frame, to_rgba(colors, alpha), depth, normal)
                    else:
                        yield RenderedImage(view, frame, to_rgba(channels, alpha))
    finally:
        if scene is not None:
            clear()  # the clip's meshes, images and Cycles' copies of them


def _render_once(path: Path) -> dict[str, np.ndarray]:
    with captured_output() as output:
        try:
            bpy.ops.render.render(write_still=True)
        except RuntimeError as error:
            raise RenderError(f"Blender failed to render: {error}") from error
    if not path.is_file():
        raise RenderError(f"Blender rendered no image; it printed: {output_tail(output)}")
    with OpenEXR.File(str(path), separate_channels=True) as image:
        channels = {name: channel.pixels for name, channel in image.channels().items()}
    path.unlink()
    return channels


def _set_output(scene: Any, settings: RenderSettings, path: Path) -> None:
    scene.render.use_file_extension = False
    scene.render.filepath = str(path)
    scene.render.image_settings.file_format = "OPEN_EXR_MULTILAYER" if settings.passes else "OPEN_EXR"
    layer = scene.view_layers[0]
    layer.use_pass_z = layer.use_pass_normal = settings.passes
    scene.render.image_settings.color_mode = "RGBA"
    scene.render.image_settings.color_depth = "32"
    scene.render.image_settings.exr_codec = "NONE"


def configure(scene: Any, settings: RenderSettings) -> None:
    """Set everything about a scene's rendering but what becomes of the image.

    Raises:
        ConfigError: if the device is not there.
    """
    scene.render.engine = "CYCLES"
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True  # a new view of the same frame re-uses geometry and BVH
    scene.view_settings.view_transform = "Standard"
    scene.render.threads_mode = "FIXED" if settings.threads else "AUTO"
    if settings.threads:
        scene.render.threads = settings.threads
    cycles = scene.cycles
    cycles.device = select_device(cycles_preferences(), settings.device)
    cycles.samples = settings.samples
    cycles.seed = settings.seed
    cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type = "BOX"  # a pixel is its own square: coverage that a rasterizer agrees with
    cycles.filter_width = 1.0
    cycles.max_bounces = max(
        settings.diffuse_bounces, settings.glossy_bounces, settings.transmission_bounces, settings.transparent_bounces
    )
    cycles.diffuse_bounces = settings.diffuse_bounces
    cycles.glossy_bounces = settings.glossy_bounces
    cycles.transmission_bounces = settings.transmission_bounces
    cycles.transparent_max_bounces = settings.transparent_bounces
    cycles.volume_bounces = 0
    cycles.caustics_reflective = cycles.caustics_refractive = True
    cycles.use_denoising = settings.denoise
    if settings.denoise:
        cycles.denoiser = "OPENIMAGEDENOISE"
        cycles.denoising_quality = settings.denoise_quality.upper()
        cycles.denoising_prefilter = settings.denoise_prefilter.upper()
        cycles.denoising_input_passes = "RGB_ALBEDO_NORMAL"


@contextlib.contextmanager
def captured_output() -> Iterator[Any]:
    """Blender's progress lines, which only a file descriptor can stop, go into a file that an error can quote."""
    sys.stdout.flush()
    with tempfile.TemporaryFile() as output:
        saved = os.dup(1)
        try:
            os.dup2(output.fileno(), 1)
            yield output
        finally:
            os.dup2(saved, 1)
            os.close(saved)


def output_tail(output: Any) -> str:
    output.seek(0)
    return str(output.read()[-2000:].decode("utf-8", "replace"))
