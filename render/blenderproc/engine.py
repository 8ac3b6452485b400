"""Renders a Clip through BlenderProc's API: the views and settings of the Cycles engine, and BlenderProc's HDF5 files.

In BlenderProc a frame number is the index of a camera. So the views are keyframes, set once, and each frame of the clip
is one BlenderProc rendering of the current mesh. Meshes and materials are those of the Cycles engine.
"""

from __future__ import annotations

import contextlib
import functools
import io
import itertools
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.core.captured import CapturedOutput, captured_output
from helix4d.core.storage import fault_in, is_fault, require_room
from helix4d.render.blenderproc.bootstrap import load_blenderproc, start_scene, write_hdf5
from helix4d.render.cycles.engine import BYTES_PER_PIXEL, RenderError, configure
from helix4d.render.cycles.scene import CLIP_RANGE, SENSOR_MM, ClipObject, clear
from helix4d.render.cycles.world import World
from helix4d.render.frame_loop import render_frames
from helix4d.render.scene.boxes import Box
from helix4d.render.scene.cameras import Camera, camera_to_world
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.images import Layers, RenderedImage
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import Views

load_blenderproc()  # so that importing this module fails where BlenderProc is not installed

_Outputs = Mapping[str, Sequence[np.ndarray]]  # BlenderProc's key -> one array per view
_BACKGROUND_DEPTH = 1e10
_NEAR = 1e9  # depths below this belong to a surface


def render_views(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings | None = None,
    frames: Sequence[int] | None = None,
    maps: Mapping[str, EnvironmentMap] = NO_MAPS,
    hdf5: Path | None = None,
) -> Iterator[RenderedImage]:
    """Render every view of every frame, frame by frame; see `helix4d.render.cycles.engine.render_views`.

    All views of a frame are rendered before the first of them is yielded.

    Args:
        hdf5: a folder for BlenderProc's files, one folder per frame with one file per view (docs/rendering.md). It
            appears when the last frame is done, and replaces a folder of this name.

    Raises:
        ConfigError: if cameras, lights and settings do not fit together, or the device is not available.
        RenderError: if Blender fails.
    """
    views = Views.of(clip, cameras, lights, settings, frames, maps)
    if hdf5 is None:
        return render_frames(views, _open_scene)
    if not cameras:
        raise ConfigError(f"{hdf5}: no views to write")
    return _write(views, hdf5)


def _write(views: Views, folder: Path) -> Iterator[RenderedImage]:
    """Render into a temporary folder beside `folder`, and rename it at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    outputs: dict[int, _Outputs] = {}
    rendered = render_frames(views, functools.partial(_open_scene, outputs=outputs))
    with (
        tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary,
        contextlib.closing(rendered),
    ):
        unfinished = Path(temporary) / folder.name
        unfinished.mkdir()
        for frame in views.frames:
            images = list(itertools.islice(rendered, len(views.cameras)))
            passes = outputs.pop(frame) if frame in outputs else _empty_outputs(views)
            _write_frame(unfinished / f"frame_{frame:02d}", images, passes, views.cameras)
            yield from images
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)


@contextlib.contextmanager
def _open_scene(views: Views, outputs: dict[int, _Outputs] | None = None) -> Iterator[_Scene]:
    with tempfile.TemporaryDirectory(prefix="helix4d-render-") as folder:
        try:
            yield _Scene(views, Path(folder), outputs)
        finally:
            clear()


class _Scene:
    """A clip in BlenderProc's scene, with every view as a keyframe.

    Args:
        views: what to render.
        folder: where BlenderProc writes what it renders and reads it back.
        outputs: filled with frame -> BlenderProc's own depth and normals, where passes are rendered; None to drop them.
    """

    def __init__(self, views: Views, folder: Path, outputs: dict[int, _Outputs] | None) -> None:
        self._bproc = load_blenderproc()
        self._views, self._folder, self._outputs = views, folder, outputs
        settings, lights = views.settings, views.lights
        clear()
        with _quiet():
            start_scene()
        self._clip = ClipObject(bpy.context.scene, views.clip, settings.cull_back_faces)
        self._set_renderer(settings)
        self._set_cameras(views.cameras)
        self._set_lamps(lights)
        self._world: World | None = None
        if any(light.environment_map is not None for light in lights):
            self._world = World(bpy.context.scene, views.maps)
        else:
            self._set_environments(lights)
        if settings.passes:
            self._bproc.renderer.enable_depth_output(activate_antialiasing=False, output_dir=str(folder))
            self._bproc.renderer.enable_normals_output(output_dir=str(folder))
            for node in bpy.context.scene.node_tree.nodes:
                if node.type == "OUTPUT_FILE":
                    node.format.color_depth = "32"  # BlenderProc's default is half floats

    def set_frame(self, frame: int) -> None:
        """Render all views of a frame."""
        self._clip.set_frame(frame)
        passes = self._render_views()
        self._colors = passes.pop("colors")
        if len(self._colors) != len(self._views.cameras):
            raise RenderError(f"BlenderProc rendered {len(self._colors)} images for {len(self._views.cameras)} views")
        self._passes = passes
        if self._outputs is not None:
            self._outputs[frame] = passes

    def render(self, view: int, box: Box) -> Layers:
        colors = {name: self._colors[view][..., i] for i, name in enumerate("RGBA")}
        if not self._views.settings.passes:
            return Layers(colors)
        depth = self._passes["depth"][view]
        normal = world_normals(self._passes["normals"][view], self._views.cameras[view])
        return Layers(colors, np.where(depth < _NEAR, depth, 0).astype(np.float32), normal)

    def _render_views(self) -> dict[str, list[np.ndarray]]:
        """BlenderProc's output: key -> one array per view."""
        if self._world is None:
            return self._run()
        data: dict[str, list[np.ndarray]] = {}
        interval = self._bproc.utility.set_keyframe_render_interval
        for view, light in enumerate(self._views.lights):  # an image cannot be keyframed
            self._world.show(light)
            interval(view, view + 1)
            for key, values in self._run().items():
                data.setdefault(key, []).extend(values)
        interval(0, len(self._views.lights))
        return data

    def _run(self) -> dict[str, list[np.ndarray]]:
        """Render once: BlenderProc's key -> one array per view.

        Raises:
            RenderError: if Blender or BlenderProc fails.
            OSError: if storage fails.
        """
        with _quiet() as output:
            try:
                data: dict[str, list[np.ndarray]] = self._bproc.renderer.render(
                    output_dir=str(self._folder),
                    load_keys={"colors", "depth", "normals"} if self._views.settings.passes else {"colors"},
                    keys_with_alpha_channel={"colors"},
                    verbose=True,  # otherwise a thread reads Blender's output for a progress bar
                )
            except (RuntimeError, OSError) as error:
                if is_fault(error):
                    raise
                printed = output.tail()
                if fault := fault_in(f"{error}\n{printed}", self._folder):
                    raise fault from error
                # The code that reads the images back does not report why they are missing or incomplete.
                settings = self._views.settings
                require_room(self._folder, BYTES_PER_PIXEL * settings.image_size**2 * len(self._views.cameras))
                raise RenderError(f"BlenderProc failed: {error}; it printed: {printed}") from error
        return data

    def _set_renderer(self, settings: RenderSettings) -> None:
        renderer = self._bproc.renderer
        renderer.set_denoiser(None)  # BlenderProc's denoiser is a compositor node; Cycles' own is enabled below
        renderer.set_noise_threshold(0)
        renderer.toggle_light_tree(True)
        configure(bpy.context.scene, settings, self._views.clip)
        renderer.set_output_format("OPEN_EXR", color_depth=32, enable_transparency=True, view_transform="Standard")
        bpy.context.view_layer.cycles.use_denoising = settings.denoise

    def _set_cameras(self, cameras: Sequence[Camera]) -> None:
        block = bpy.context.scene.camera
        data = block.data
        data.sensor_fit = "HORIZONTAL"
        data.sensor_width = SENSOR_MM
        for view, camera in enumerate(cameras):
            size, k = camera.image_size, _blenderproc_intrinsics(camera)
            self._bproc.camera.set_intrinsics_from_K_matrix(k, size, size, *CLIP_RANGE)
            for name in ("lens", "shift_x", "shift_y"):  # BlenderProc has one set of intrinsics for all poses
                data.keyframe_insert(name, frame=view)
            # Of two equivalent sets of angles Blender chooses the one nearer to the previous pose.
            block.rotation_euler = (0.0, 0.0, 0.0)
            self._bproc.camera.add_camera_pose(camera_to_world(camera), frame=view)

    def _set_lamps(self, lights: Sequence[Lights]) -> None:
        lamps = [self._bproc.types.Light("POINT") for _ in range(self._views.lamps)]
        for view, light in enumerate(lights):
            for index, lamp in enumerate(lamps):
                lit = index < len(light.points)
                lamp.set_radius(light.points[index].radius if lit else 0.0, frame=view)
                lamp.set_energy(light.points[index].watts if lit else 0.0, frame=view)
                if lit:
                    lamp.set_color(light.points[index].color, frame=view)
                    lamp.set_location(light.points[index].position, frame=view)

    def _set_environments(self, lights: Sequence[Lights]) -> None:
        background = bpy.context.scene.world.node_tree.nodes["Background"].inputs
        for view, light in enumerate(lights):
            self._bproc.renderer.set_world_background(list(light.environment_color), light.environment_radiance)
            for name in ("Color", "Strength"):
                background[name].keyframe_insert("default_value", frame=view)


def world_normals(encoded: np.ndarray, camera: Camera) -> np.ndarray:
    """Decode BlenderProc's normals.

    Args:
        encoded: (H, W, 3) float, (1 + n) / 2 of the normal n in the axes of Blender's camera (x right, y up, z back).
        camera: the camera of the view.

    Returns:
        (H, W, 3) float32 unit vectors in world space, 0 where nothing was hit.
    """
    normal = (2.0 * encoded.astype(np.float64) - 1.0) @ camera_to_world(camera)[:3, :3].T
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(length > 1e-3, normal / np.maximum(length, 1e-3), 0.0).astype(np.float32)


def _empty_outputs(views: Views) -> _Outputs:
    """BlenderProc's depth and normals of a frame without a surface."""
    if not views.settings.passes:
        return {}
    shape, count = (views.settings.image_size, views.settings.image_size), len(views.cameras)
    depth, normals = np.full(shape, _BACKGROUND_DEPTH, np.float32), np.full((*shape, 3), 0.5, np.float32)
    return {"depth": [depth] * count, "normals": [normals] * count}


def _write_frame(folder: Path, images: Sequence[RenderedImage], outputs: _Outputs, cameras: Sequence[Camera]) -> None:
    data: dict[str, Sequence[Any]] = {
        "colors": [image.rgba for image in images],
        **outputs,
        "cam_K": [_blenderproc_intrinsics(camera) for camera in cameras],
        "cam2world_matrix": [camera_to_world(camera) for camera in cameras],
    }
    with _quiet():
        write_hdf5(folder, data)


def _blenderproc_intrinsics(camera: Camera) -> np.ndarray:
    """(3, 3) in pixels, with the origin at the center of the first pixel as in BlenderProc."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= 0.5
    return intrinsics


@contextlib.contextmanager
def _quiet() -> Iterator[CapturedOutput]:
    """Keep the output of Blender and BlenderProc off standard output; yields the file with Blender's."""
    with contextlib.redirect_stdout(io.StringIO()), captured_output(1) as output:
        yield output
