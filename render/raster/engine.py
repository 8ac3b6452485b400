"""Renders a Clip with a rasterizer on EGL: the same call as the Cycles engine at a fraction of its cost, no Blender.

Needs neither a display nor a graphics card: Mesa renders in software. Alpha comes from `helix4d.render.alpha`, as in
the Cycles engine. docs/rendering.md lists the effects that this engine leaves out.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import moderngl
import numpy as np

from helix4d.assets import Clip
from helix4d.core import SetupError
from helix4d.render.alpha.coverage import NEAREST_DEPTH
from helix4d.render.frame_loop import render_frames
from helix4d.render.raster.scene import RasterScene
from helix4d.render.raster.shaders import FINER, VIEW_BLOCK, view_rows
from helix4d.render.raster.shadows import Shadows
from helix4d.render.raster.sky import Sky
from helix4d.render.scene.boxes import Box, tiles
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.images import Layers, RenderedImage
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import Views

_LIBRARIES = (("libEGL.so.1", "libGL.so.1"), ("libEGL.so", "libGL.so"))
_MAX_DEVICES = 16
_THREADS_VARIABLE = "LP_NUM_THREADS"
_TILE = 256
"""Most pixels per side that are drawn at a time, which bounds memory."""
_MARGIN = 0.01  # added around the depth range of the vertices


def render_views(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings | None = None,
    frames: Sequence[int] | None = None,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> Iterator[RenderedImage]:
    """Render every view of every frame, frame by frame; see `helix4d.render.cycles.engine.render_views`.

    Only the settings `image_size`, `exact_alpha`, `cull_back_faces`, `passes`, `threads` and `device` have an effect
    ("cpu" is Mesa's software renderer, "auto" EGL's first device, anything else a GPU there). A process keeps the
    device and the number of threads of its first call, and must make all calls from one thread.

    Raises:
        ConfigError: if cameras, lights and settings do not fit together, or EGL is not available.
    """
    return render_frames(Views.of(clip, cameras, lights, settings, frames, maps), _open_scene)


@contextlib.contextmanager
def _open_scene(views: Views) -> Iterator[_Scene]:
    yield _Scene(views)


class _Scene:
    """A clip in this process's GL context."""

    def __init__(self, views: Views) -> None:
        settings, lamps = views.settings, views.lamps
        with _threads(settings.threads):
            device = open_device(settings.device)
        self._views = views
        self._clip = RasterScene(
            device.context, device.programs, views.clip, lamps, settings.cull_back_faces, views.maps
        )
        self._target = _Target(device.context, settings.image_size, settings.passes, lamps)
        self._shadows = Shadows(device.context, lamps)
        self._sky = Sky(device.context, views.maps)

    def set_frame(self, frame: int) -> None:
        vertices = self._views.clip.frames[frame].vertices
        self._bounds = np.stack([vertices.min(axis=0), vertices.max(axis=0)])
        self._clip.set_frame(frame)
        self._shadows.set_frame(self._bounds)

    def render(self, view: int, box: Box) -> Layers:
        camera, lights = self._views.cameras[view], self._views.lights[view]
        self._clip.set_lights(lights)
        return self._target.draw(self._clip, self._shadows, self._sky, camera, lights, self._bounds, box)


class _Device:
    """A GL context and the programs compiled in it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.software = "llvmpipe" in context.info["GL_RENDERER"]
        self.programs: dict[tuple[str, str], Any] = {}


def open_device(name: str) -> _Device:
    """Open this process's only context, or return it: GL objects are released in whatever context is current.

    Args:
        name: one of `helix4d.render.scene.settings.DEVICES`: "cpu" requires Mesa's renderer on the CPU, "auto" accepts
            EGL's first device, and any other name requires a GPU.

    Raises:
        SetupError: if no such context can be opened.
    """
    if not _devices:
        _devices.append(_open(name == "cpu"))
    device, renderer = _devices[0], _devices[0].context.info["GL_RENDERER"]
    if name == "cpu" and not device.software:
        raise SetupError(f"device cpu: this process already renders on {renderer}; use a new process for device cpu")
    if name not in ("auto", "cpu") and device.software:
        raise SetupError(
            f"device {name}: OpenGL renders on the CPU ({renderer}): install the GPU's driver, or use auto or cpu"
        )
    return device


_devices: list[_Device] = []


def _open(software: bool) -> _Device:
    reasons = []
    for egl, gl in _LIBRARIES:
        for index in range(_MAX_DEVICES if software else 1):
            how: dict[str, Any] = {"backend": "egl", "libegl": egl, "libgl": gl, "device_index": index}
            try:
                context = moderngl.create_context(require=400, standalone=True, **how)
            except Exception as error:  # noqa: BLE001 (moderngl raises Exception itself)
                reasons.append(f"{egl}, device {index}: {error}")
                break
            device = _Device(context)
            if device.software or not software:
                context.gc_mode = "auto"
                return device
            context.release()
    raise SetupError(
        f"engine raster: no OpenGL 4 context through EGL ({'; '.join(reasons)}): install a graphics driver or Mesa "
        "(libegl1, libgl1 and libgl1-mesa-dri), or use engine cycles"
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Set the variable from which Mesa reads its number of threads when a context is created; 0 means all cores."""
    before = os.environ.get(_THREADS_VARIABLE)
    if count:
        os.environ[_THREADS_VARIABLE] = str(count if count > 1 else 0)  # 0: in the calling thread
    try:
        yield
    finally:
        if count:
            os.environ.pop(_THREADS_VARIABLE)
            if before is not None:
                os.environ[_THREADS_VARIABLE] = before


class _Target:
    """What views of one size are drawn into: parts of an image, a few times as fine as its pixels."""

    def __init__(self, context: Any, size: int, passes: bool, lamps: int) -> None:
        self._context = context
        self._size = size
        self._lamps = max(lamps, 1)
        self._view = context.buffer(reserve=16 * view_rows(lamps), dynamic=True)
        self._buffers: dict[tuple[int, int, int], _Buffers] = {}
        self._passes = passes
        # A viewport larger than GL allows would be clamped without an error.
        self._finer = max(min(FINER, min(context.info["GL_MAX_VIEWPORT_DIMS"]) // size), 1)

    def draw(
        self,
        scene: RasterScene,
        shadows: Shadows,
        sky: Sky,
        camera: Camera,
        lights: Lights,
        bounds: np.ndarray,
        box: Box,
    ) -> Layers:
        """Render the pixels of a view that are inside the box."""
        maps = shadows.set_view(scene, lights)
        shadows.use()
        scene.use_lights()
        sky.use(lights)
        self._view.write(_view_values(camera, lights, bounds, sky.values(lights), maps, self._lamps))
        self._view.bind_to_uniform_block(VIEW_BLOCK)
        self._context.front_face = "cw"  # rows run down, so the image that GL sees is mirrored
        colors = np.zeros((self._size, self._size, 4), np.float32)
        passes = np.zeros_like(colors)
        for part in tiles(box, _TILE):
            place = np.s_[part.top : part.bottom, part.left : part.right]
            colors[place] = self._draw_colors(scene, sky, camera, lights, part)
            if self._passes:
                passes[place] = self._draw_passes(scene, camera, part)
        channels = {name: colors[..., channel] for channel, name in enumerate("RGBA")}
        if not self._passes:
            return Layers(channels)
        return Layers(channels, np.ascontiguousarray(passes[..., 3]), np.ascontiguousarray(passes[..., :3]))

    def _draw_colors(self, scene: RasterScene, sky: Sky, camera: Camera, lights: Lights, part: Box) -> np.ndarray:
        finer = self._finer
        buffers = self._opened(part, finer)
        # Glass shows the environment behind the object: draw it first, with alpha 0, and subtract it where alpha stays
        # below 1.
        behind = np.zeros((1, 1, 3), np.float32)
        if scene.has_glass and lights.environment_map is not None:
            _clear(buffers.drawn, (0.0, 0.0, 0.0, 0.0))
            sky.draw(camera)
            behind = buffers.read()[..., :3]
        else:
            if scene.has_glass:
                behind[:] = lights.environment_radiance * np.array(lights.environment_color)
            _clear(buffers.drawn, (*behind[0, 0], 0.0))
        scene.draw(buffers.drawn, camera.extrinsics[2, :3])
        image = buffers.read()
        image[..., :3] -= (1.0 - image[..., 3:]) * behind
        return np.asarray(image.reshape(part.height, finer, part.width, finer, 4).mean(axis=(1, 3)))

    def _draw_passes(self, scene: RasterScene, camera: Camera, part: Box) -> np.ndarray:
        """(H, W, 4) normals and depth in the middle of each pixel."""
        buffers = self._opened(part, 1)
        _clear(buffers.drawn, (0.0, 0.0, 0.0, 0.0))
        scene.draw(buffers.drawn, camera.extrinsics[2, :3], passes=True)
        return buffers.read()

    def _opened(self, part: Box, finer: int) -> _Buffers:
        """Buffers for a part of the image, `finer` times as fine; those of the last size are kept."""
        key = part.height, part.width, finer
        if key not in self._buffers:
            self._buffers = {old: buffers for old, buffers in self._buffers.items() if old[2] != finer}
            self._buffers[key] = _Buffers(self._context, finer * part.height, finer * part.width)
        buffers = self._buffers[key]
        # The whole image's viewport, so that a pixel does not depend on the part, except for rounding.
        side = finer * self._size
        buffers.drawn.viewport = -finer * part.left, -finer * part.top, side, side
        return buffers


class _Buffers:
    """A framebuffer of one size."""

    def __init__(self, context: Any, height: int, width: int) -> None:
        self._shape = height, width, 4
        self.drawn = context.simple_framebuffer((width, height), 4, dtype="f4")

    def read(self) -> np.ndarray:
        """(H, W, 4) float32 of what was drawn."""
        image = np.empty(self._shape, np.float32)
        self.drawn.read_into(image, viewport=(0, 0, self._shape[1], self._shape[0]), components=4, dtype="f4")
        return image


def _view_values(
    camera: Camera, lights: Lights, bounds: np.ndarray, sky: np.ndarray, maps: np.ndarray, lamps: int
) -> bytes:
    """Return the uniform block of a view, std140."""
    axis = camera.extrinsics[2]
    middle, half = bounds.mean(axis=0), 0.5 * np.ptp(bounds, axis=0)
    center, reach = axis[:3] @ middle + axis[3], np.abs(axis[:3]) @ half + _MARGIN
    near, far = max(center - reach, NEAREST_DEPTH), max(center + reach, 2.0 * NEAREST_DEPTH)
    # Pixels (x right, y down) over the image's size, mapped from [0, 1] to [-1, 1].
    pixels = 2.0 / camera.image_size * camera.intrinsics[:2] - np.array([[0.0, 0.0, 1.0]])
    projection = np.zeros((4, 4))
    projection[:2, :3] = pixels
    projection[2, 2:] = (far + near) / (far - near), -2.0 * far * near / (far - near)
    projection[3, 2] = 1.0
    places, colors = np.zeros((lamps, 4)), np.zeros((lamps, 4))
    places[:, 3] = 1.0
    places[:, 0] = 1e3  # an unused lamp needs some position
    for index, lamp in enumerate(lights.points):
        places[index] = *lamp.position, np.dot(lamp.position, lamp.position)
        colors[index] = *(lamp.irradiance * np.array(lamp.color)), lamp.radius
    rows = [
        *(projection @ camera.extrinsics).T,
        [*camera.position, 0.0],
        axis,
        *sky,
        *places,
        *colors,
        *maps,
    ]
    return np.array(rows, np.float32).tobytes()


def _clear(framebuffer: Any, color: Sequence[float]) -> None:
    framebuffer.depth_mask = True
    framebuffer.use()
    framebuffer.clear(*color, depth=1.0)
