"""Renders a Clip with a rasterizer on EGL: the same call as the Cycles engine, a fraction of its cost, no Blender.

No display is needed, and no graphics card: Mesa renders in software. Alpha is `render.alpha`'s, as the default
engine's is. What this leaves out is listed in docs/rendering.md.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import moderngl
import numpy as np

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.render.alpha.coverage import NEAREST_DEPTH, Coverage
from helix4d.render.raster.scene import RasterScene
from helix4d.render.raster.shaders import RESOLVE_FRAGMENT, RESOLVE_VERTEX, SAMPLES, VIEW_BLOCK, view_rows
from helix4d.render.raster.shadows import Shadows
from helix4d.render.raster.sky import Sky
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap, check_maps
from helix4d.render.scene.images import RenderedImage, to_rgba
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import check_views, empty_image

_LIBRARIES = (("libEGL.so.1", "libGL.so.1"), ("libEGL.so", "libGL.so"))
_MAX_DEVICES = 16
_THREADS_VARIABLE = "LP_NUM_THREADS"
_MARGIN = 0.01  # around the depths of the vertices


def render_views(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings | None = None,
    frames: Sequence[int] | None = None,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
) -> Iterator[RenderedImage]:
    """Render every view of every frame, frame by frame; see `helix4d.render.cycles.engine.render_views`.

    Of the settings only `image_size`, `exact_alpha`, `cull_back_faces`, `passes`, `threads` and `device` matter
    ("cpu": Mesa's software renderer; anything else: EGL's first device). A process keeps its first device and threads,
    and renders in one thread only.

    Raises:
        ConfigError: if cameras, lights and settings do not fit together, or there is no EGL.
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
    with _threads(settings.threads):
        device = open_device(settings.device == "cpu")
    lamps = max((len(light.points) for light in lights), default=0)
    coverage = Coverage(clip, settings.cull_back_faces) if settings.exact_alpha else None
    scene: RasterScene | None = None
    target = _Target(device.context, settings.image_size, settings.passes, lamps)
    shadows = Shadows(device.context, lamps)
    sky = Sky(device.context, maps)
    mapped = any(light.environment_map is not None for light in lights)
    for frame in frames:
        if not len(clip.frames[frame].faces):
            yield from (empty_image(view, frame, settings) for view in range(len(cameras)))
            continue
        if scene is None:
            scene = RasterScene(device.context, device.programs, clip, lamps, settings.cull_back_faces, mapped)
        scene.set_frame(frame)
        bounds = np.stack([clip.frames[frame].vertices.min(axis=0), clip.frames[frame].vertices.max(axis=0)])
        shadows.set_frame(scene, bounds)
        for view, (camera, view_lights) in enumerate(zip(cameras, lights, strict=True)):
            alpha = None if coverage is None else coverage.alpha(frame, camera)
            colors, depth, normal = target.draw(scene, shadows, sky, camera, view_lights, bounds)
            yield RenderedImage(view, frame, to_rgba(colors, alpha), depth, normal)


class _Device:
    """A GL context and the programs that were compiled in it."""

    def __init__(self, context: Any) -> None:
        self.context = context
        self.software = "llvmpipe" in context.info["GL_RENDERER"]
        self.programs: dict[tuple[str, str], Any] = {}


def open_device(software: bool) -> _Device:
    """This process's only context, since GL objects die in whatever context is current.

    Args:
        software: insist on Mesa's renderer on the CPU.

    Raises:
        ConfigError: if there is none.
    """
    if not _devices:
        _devices.append(_open(software))
    if software and not _devices[0].software:
        renderer = _devices[0].context.info["GL_RENDERER"]
        raise ConfigError(f"device cpu: this process renders on {renderer} already; ask for cpu in a new process")
    return _devices[0]


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
    raise ConfigError(
        f"the raster engine needs OpenGL 4 through EGL ({'; '.join(reasons)}): install a graphics driver or Mesa's "
        "libegl1, libgl1 and libgl1-mesa-dri, or use the engine cycles"
    )


@contextlib.contextmanager
def _threads(count: int) -> Iterator[None]:
    """Mesa reads its number of threads from the environment when a context is made; 0 is all cores."""
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
    """Framebuffers of one image size."""

    def __init__(self, context: Any, size: int, passes: bool, lamps: int) -> None:
        self._context = context
        self._size = size
        self._lamps = max(lamps, 1)
        self._view = context.buffer(reserve=16 * view_rows(lamps), dynamic=True)
        depth = context.depth_renderbuffer((size, size), samples=SAMPLES)
        self._drawn = context.framebuffer([context.renderbuffer((size, size), 4, samples=SAMPLES, dtype="f4")], depth)
        self._resolved = context.simple_framebuffer((size, size), 4, dtype="f4")
        self._passes: tuple[Any, Any, Any] | None = None
        if passes:
            samples = context.texture((size, size), 4, samples=SAMPLES, dtype="f4")
            program = context.program(vertex_shader=RESOLVE_VERTEX, fragment_shader=RESOLVE_FRAGMENT)
            self._passes = context.framebuffer([samples], depth), samples, context.vertex_array(program, [])

    def draw(
        self, scene: RasterScene, shadows: Shadows, sky: Sky, camera: Camera, lights: Lights, bounds: np.ndarray
    ) -> tuple[dict[str, np.ndarray], np.ndarray | None, np.ndarray | None]:
        """Linear premultiplied R, G, B, A of a view, and depth and normals where asked for."""
        axis = camera.extrinsics[2]
        maps = shadows.set_view(scene, lights)
        shadows.use()
        sky.use(lights)
        self._view.write(_view_values(camera, lights, bounds, sky.values(lights), maps, self._lamps))
        self._view.bind_to_uniform_block(VIEW_BLOCK)
        self._context.front_face = "cw"  # rows run down, so the image that GL sees is mirrored
        # Nothing is behind the object but the environment, which glass shows. Light without coverage is taken off
        # again where no glass made it coverage.
        behind = np.zeros((1, 1, 3), np.float32)
        if scene.has_glass and lights.environment_map is not None:
            _clear(self._resolved, (0.0, 0.0, 0.0, 0.0))
            sky.draw(camera)
            behind = self._read()[..., :3]
            _clear(self._drawn, (0.0, 0.0, 0.0, 0.0))
            sky.draw(camera)
        else:
            if scene.has_glass:
                behind[:] = lights.environment_radiance * np.array(lights.environment_color)
            _clear(self._drawn, (*behind[0, 0], 0.0))
        scene.draw(self._drawn, axis[:3])
        self._context.copy_framebuffer(self._resolved, self._drawn)
        image = self._read()
        image[..., :3] -= (1.0 - image[..., 3:]) * behind
        colors = {name: image[..., channel] for channel, name in enumerate("RGBA")}
        if self._passes is None:
            return colors, None, None
        target, samples, resolve = self._passes
        _clear(target, (0.0, 0.0, 0.0, 0.0))
        scene.draw(target, axis[:3], passes=True)
        self._resolved.use()
        self._context.enable_only(moderngl.NOTHING)
        samples.use(0)
        resolve.render(moderngl.TRIANGLES, vertices=3)
        found = self._read()
        return colors, np.ascontiguousarray(found[..., 3]), np.ascontiguousarray(found[..., :3])

    def _read(self) -> np.ndarray:
        image = np.empty((self._size, self._size, 4), np.float32)
        self._resolved.read_into(image, components=4, dtype="f4")
        return image


def _view_values(
    camera: Camera, lights: Lights, bounds: np.ndarray, sky: np.ndarray, maps: np.ndarray, lamps: int
) -> bytes:
    """The uniform block of a view, std140."""
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
    places[:, 0] = 1e3  # an absent lamp stands somewhere
    for index, lamp in enumerate(lights.points):
        places[index] = *lamp.position, np.dot(lamp.position, lamp.position)
        colors[index, :3] = lamp.irradiance * np.array(lamp.color)
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
