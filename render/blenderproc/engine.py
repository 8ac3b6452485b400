"""Renders a Clip through BlenderProc's API: the default engine's views and settings, and BlenderProc's HDF5 files.

BlenderProc's frame number is its camera's index. So the views are keyframes, set once, and every frame of the clip is
one BlenderProc rendering of the mesh as it then stands. Meshes and materials are the default engine's.
"""

from __future__ import annotations

import contextlib
import io
import shutil
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.render.alpha.coverage import Coverage
from helix4d.render.blenderproc.bootstrap import load_blenderproc, start_scene, write_hdf5
from helix4d.render.cycles.engine import RenderError, captured_output, configure, output_tail
from helix4d.render.cycles.scene import CLIP_RANGE, SENSOR_MM, ClipObject, camera_to_world, clear
from helix4d.render.cycles.world import World
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap, check_maps
from helix4d.render.scene.images import RenderedImage, to_rgba
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings
from helix4d.render.scene.views import check_views, empty_image

load_blenderproc()  # an engine that is not installed is refused when it is imported

_Outputs = Mapping[str, Sequence[np.ndarray]]  # BlenderProc's key -> one array a view
_BACKGROUND_DEPTH = 1e10
_NEAR = 1e9  # depths below this are of something


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
        hdf5: a folder to write BlenderProc's files to, one folder a frame and one file a view (docs/rendering.md): it
            appears when the last frame is rendered, and replaces what had this name.

    Raises:
        ConfigError: if cameras, lights and settings do not fit together, or the device is not there.
        RenderError: if Blender fails.
    """
    settings = RenderSettings() if settings is None else settings
    numbers = range(len(clip.frames)) if frames is None else frames
    check_views(clip, cameras, lights, settings, numbers)
    check_maps(lights, maps)
    if hdf5 is None:
        return _render(clip, cameras, lights, settings, numbers, maps, None)
    if not cameras:
        raise ConfigError(f"{hdf5}: without a view there is nothing to write")
    return _write(clip, cameras, lights, settings, numbers, maps, hdf5)


def _write(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings,
    frames: Sequence[int],
    maps: Mapping[str, EnvironmentMap],
    folder: Path,
) -> Iterator[RenderedImage]:
    """Render into a folder beside `folder`, which takes its name at the end."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as temporary:
        unfinished = Path(temporary) / folder.name
        yield from _render(clip, cameras, lights, settings, frames, maps, unfinished)
        unfinished.mkdir(exist_ok=True)
        if folder.exists():
            shutil.rmtree(folder)
        unfinished.rename(folder)


def _render(
    clip: Clip,
    cameras: Sequence[Camera],
    lights: Sequence[Lights],
    settings: RenderSettings,
    frames: Sequence[int],
    maps: Mapping[str, EnvironmentMap],
    hdf5: Path | None,
) -> Iterator[RenderedImage]:
    coverage = Coverage(clip, settings.cull_back_faces) if settings.exact_alpha else None
    scene: _Scene | None = None
    try:
        with tempfile.TemporaryDirectory(prefix="helix4d-render-") as folder:
            for frame in frames:
                if scene is None and (hdf5 is not None or len(clip.frames[frame].faces)):
                    scene = _Scene(clip, cameras, lights, settings, maps, Path(folder))
                if scene is None or not len(clip.frames[frame].faces):
                    images = [empty_image(view, frame, settings) for view in range(len(cameras))]
                    outputs = _outputs_of_nothing(settings, len(cameras))
                else:
                    alphas = [None if coverage is None else coverage.alpha(frame, camera) for camera in cameras]
                    images, outputs = scene.render(frame, alphas)
                if hdf5 is not None:
                    _write_frame(hdf5 / f"frame_{frame:02d}", images, outputs, cameras)
                yield from images
    finally:
        if scene is not None:
            clear()


class _Scene:
    """A clip in BlenderProc's scene, with every view as a keyframe.

    Args:
        maps: sha256 -> environment map, for the lights that name one.
        folder: where BlenderProc writes what it renders before it reads it again.
    """

    def __init__(
        self,
        clip: Clip,
        cameras: Sequence[Camera],
        lights: Sequence[Lights],
        settings: RenderSettings,
        maps: Mapping[str, EnvironmentMap],
        folder: Path,
    ) -> None:
        self._bproc = load_blenderproc()
        self._lights = lights
        self._cameras, self._passes, self._folder = cameras, settings.passes, folder
        clear()
        with _quiet():
            start_scene()
        self._clip = ClipObject(bpy.context.scene, clip, settings.cull_back_faces)
        self._set_renderer(settings)
        self._set_cameras(cameras)
        self._set_lamps(lights)
        self._world: World | None = None
        if any(light.environment_map is not None for light in lights):
            self._world = World(bpy.context.scene, maps)
        else:
            self._set_environments(lights)
        if settings.passes:
            self._bproc.renderer.enable_depth_output(activate_antialiasing=False, output_dir=str(folder))
            self._bproc.renderer.enable_normals_output(output_dir=str(folder))
            for node in bpy.context.scene.node_tree.nodes:
                if node.type == "OUTPUT_FILE":
                    node.format.color_depth = "32"  # BlenderProc leaves half floats

    def render(self, frame: int, alphas: Sequence[np.ndarray | None]) -> tuple[list[RenderedImage], _Outputs]:
        """Every view of a frame.

        Args:
            alphas: the exact alpha of every view, (H, W), or None to keep Cycles'.

        Returns:
            The images, and BlenderProc's own depth and normals where passes were asked for.
        """
        self._clip.set_frame(frame)
        data = self._render_views()
        colors = data.pop("colors")
        if len(colors) != len(self._cameras):
            raise RenderError(f"BlenderProc gave {len(colors)} images for {len(self._cameras)} views")
        images = []
        for view, alpha in enumerate(alphas):
            rgba = to_rgba({name: colors[view][..., i] for i, name in enumerate("RGBA")}, alpha)
            if self._passes:
                depth = np.where(data["depth"][view] < _NEAR, data["depth"][view], 0).astype(np.float32)
                normal = world_normals(data["normals"][view], self._cameras[view])
                images.append(RenderedImage(view, frame, rgba, depth, normal))
            else:
                images.append(RenderedImage(view, frame, rgba))
        return images, data

    def _render_views(self) -> dict[str, list[np.ndarray]]:
        """BlenderProc's output, key -> one array a view."""
        if self._world is None:
            return self._run()
        data: dict[str, list[np.ndarray]] = {}
        interval = self._bproc.utility.set_keyframe_render_interval
        for view, light in enumerate(self._lights):  # an image cannot be keyframed
            self._world.show(light)
            interval(view, view + 1)
            for key, values in self._run().items():
                data.setdefault(key, []).extend(values)
        interval(0, len(self._lights))
        return data

    def _run(self) -> dict[str, list[np.ndarray]]:
        with _quiet() as output:
            try:
                data: dict[str, list[np.ndarray]] = self._bproc.renderer.render(
                    output_dir=str(self._folder),
                    load_keys={"colors", "depth", "normals"} if self._passes else {"colors"},
                    keys_with_alpha_channel={"colors"},
                    verbose=True,  # otherwise it reads Blender's lines in a thread, for a progress bar
                )
            except (RuntimeError, FileNotFoundError) as error:
                raise RenderError(f"BlenderProc failed: {error}; it printed: {output_tail(output)}") from error
        return data

    def _set_renderer(self, settings: RenderSettings) -> None:
        renderer = self._bproc.renderer
        renderer.set_denoiser(None)  # BlenderProc's is a compositor node; Cycles' own is switched on below
        renderer.set_noise_threshold(0)
        renderer.toggle_light_tree(True)
        configure(bpy.context.scene, settings)
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
            block.rotation_euler = (
                0.0,
                0.0,
                0.0,
            )  # of two ways to say a rotation Blender takes that nearer to the last
            self._bproc.camera.add_camera_pose(camera_to_world(camera), frame=view)

    def _set_lamps(self, lights: Sequence[Lights]) -> None:
        lamps = [self._bproc.types.Light("POINT") for _ in range(max(len(light.points) for light in lights))]
        for view, light in enumerate(lights):
            for index, lamp in enumerate(lamps):
                lit = index < len(light.points)
                lamp.set_radius(0.0, frame=view)
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
    """BlenderProc's normals as ours.

    Args:
        encoded: (H, W, 3) float: half of one plus the normal in the axes of Blender's camera (x right, y up, z back).

    Returns:
        (H, W, 3) float32 unit vectors of the world, 0 where nothing was hit.
    """
    normal = (2.0 * encoded.astype(np.float64) - 1.0) @ camera_to_world(camera)[:3, :3].T
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return np.where(length > 1e-3, normal / np.maximum(length, 1e-3), 0.0).astype(np.float32)


def _outputs_of_nothing(settings: RenderSettings, views: int) -> _Outputs:
    """What BlenderProc gives where there is no surface."""
    if not settings.passes:
        return {}
    shape = (settings.image_size, settings.image_size)
    depth, normals = np.full(shape, _BACKGROUND_DEPTH, np.float32), np.full((*shape, 3), 0.5, np.float32)
    return {"depth": [depth] * views, "normals": [normals] * views}


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
    """(3, 3) pixels, counted from the center of the first pixel as BlenderProc does."""
    intrinsics = camera.intrinsics.copy()
    intrinsics[:2, 2] -= 0.5
    return intrinsics


@contextlib.contextmanager
def _quiet() -> Iterator[Any]:
    """Neither Blender's lines nor BlenderProc's reach standard output; yields the file with Blender's."""
    with contextlib.redirect_stdout(io.StringIO()), captured_output() as output:
        yield output
