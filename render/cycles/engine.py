"""Renders a Clip with Cycles, inside this process.

An image depends only on its clip, frame, camera, lights and settings, so a view may be rendered alone, after other
clips, or with another number of threads. Paths are traced in the box around the silhouette only. Cycles seeds them by a
pixel's place in the whole image, so without a denoiser the box changes no pixel.
"""

from __future__ import annotations

import contextlib
import errno
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from helix4d.assets import Clip
from helix4d.core import FormatError, Helix4DError
from helix4d.core.captured import captured_output
from helix4d.core.storage import fault_in, require_room
from helix4d.render.cycles import tangents
from helix4d.render.cycles.devices import cycles_preferences, select_device
from helix4d.render.cycles.scene import ClipScene, clear
from helix4d.render.frame_loop import render_frames
from helix4d.render.scene.boxes import Box
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.exr_files import read_exr
from helix4d.render.scene.images import Layers, RenderedImage
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.passes import split_layers
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import Views

BYTES_PER_PIXEL = 32  # eight channels of 32 bits: colors, depth and normals


class RenderError(Helix4DError):
    """Blender failed to render an image; the message ends with what it printed."""


def render_views(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings | None = None,
    frames: Sequence[int] | None = None,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> Iterator[RenderedImage]:
    """Render every view of every frame, frame by frame.

    Blender holds one scene per process: finish or close one call before the next. Frames without a triangle come out
    fully transparent, without rendering.

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
        ConfigError: if cameras, lights and settings do not fit together, or the device is not available.
        RenderError: if Blender fails.
    """
    return render_frames(Views.of(clip, cameras, lights, settings, frames, maps), _open_scene)


@contextlib.contextmanager
def _open_scene(views: Views) -> Iterator[_Scene]:
    with tempfile.TemporaryDirectory(prefix="helix4d-render-") as folder:
        try:
            yield _Scene(views, Path(folder) / "image.exr")
        finally:
            clear()  # frees the clip's meshes and images and Cycles' copies of them


class _Scene:
    """A clip in Blender's scene; images travel through the file `path`."""

    def __init__(self, views: Views, path: Path) -> None:
        settings = views.settings
        self._views, self._path = views, path
        self._scene = ClipScene(views.clip, views.lamps, settings.cull_back_faces, views.maps)
        configure(self._scene.scene, settings, views.clip)
        _set_output(self._scene.scene, settings, path)
        self.set_frame = self._scene.set_frame

    def render(self, view: int, box: Box) -> Layers:
        size = self._views.settings.image_size
        self._scene.set_view(self._views.cameras[view], self._views.lights[view])
        _set_border(self._scene.scene.render, box, size)
        channels = _render_once(self._path, BYTES_PER_PIXEL * box.width * box.height)
        colors, depth, normal = split_layers(channels) if self._views.settings.passes else Layers(channels)
        whole = {name: box.paste(channel, size) for name, channel in colors.items()}
        if depth is None or normal is None:
            return Layers(whole)
        return Layers(whole, box.paste(depth, size), box.paste(normal, size))


def _set_border(render: Any, box: Box, size: int) -> None:
    """Restrict Blender's next image of `size`² pixels to a box."""
    # Blender multiplies by the size and drops the fraction; a quarter of a pixel keeps rounding errors harmless.
    render.use_border = render.use_crop_to_border = True
    render.border_min_x, render.border_max_x = (box.left + 0.25) / size, (box.right + 0.25) / size
    render.border_min_y, render.border_max_y = (size - box.bottom + 0.25) / size, (size - box.top + 0.25) / size


def _render_once(path: Path, expected_bytes: int) -> dict[str, np.ndarray]:
    """Render one image to `path`, and return its channels: name -> (H, W) array.

    Raises:
        RenderError: if Blender fails.
        OSError: if storage fails.
    """
    with captured_output(1) as output:
        try:
            bpy.ops.render.render(write_still=True)
        except RuntimeError as error:
            failed = RenderError(f"Blender failed to render: {error}")
            raise fault_in(f"{error}\n{output.tail()}", path) or failed from error
    if not path.is_file():
        raise RenderError(f"Blender rendered no image; it printed: {output.tail()}")
    try:
        channels = read_exr(path)
    except FormatError as error:
        # Blender does not report a full disk but leaves an incomplete file.
        require_room(path.parent, expected_bytes)
        raise OSError(errno.EIO, f"the image that Blender wrote is damaged: {error}", str(path)) from error
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


def configure(scene: Any, settings: RenderSettings, clip: Clip) -> None:
    """Set everything about how a scene is rendered, except its output.

    Args:
        scene: the Blender scene.
        settings: the settings.
        clip: what the scene shows. One whose pixels would depend on the timing of threads is rendered by one thread.

    Raises:
        ConfigError: if the device is not available.
    """
    scene.render.engine = "CYCLES"
    scene.render.resolution_percentage = 100
    scene.render.film_transparent = True
    scene.render.use_persistent_data = True  # a new view of the same frame reuses geometry and BVH
    scene.view_settings.view_transform = "Standard"
    threads = 1 if tangents.depend_on_timing(clip) else settings.threads
    scene.render.threads_mode = "FIXED" if threads else "AUTO"
    if threads:
        scene.render.threads = threads
    cycles = scene.cycles
    cycles.device = select_device(cycles_preferences(), settings.device)
    cycles.samples = settings.samples
    cycles.seed = settings.seed
    cycles.use_adaptive_sampling = False
    cycles.pixel_filter_type = "BOX"  # box filter of one pixel, so that coverage agrees with the rasterizer
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
