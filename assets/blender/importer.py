"""Turns files that only Blender reads into `Clip`s with its importers; the only file here that imports bpy.

Blender's state is global to the process: opening a file clears it, so only the asset opened last can be baked. Scripts
in files are never run. A frame is the triangulated result of Blender's dependency graph, with separate corners, so that
it can have per-corner normals.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.assets.blender.blend_file import SAVE_AGAIN, newer_version
from helix4d.assets.blender.disk_access import (
    refuse_before_opening,
    refuse_disk_access,
    refuse_outside_libraries,
    refuse_outside_materials,
)
from helix4d.assets.blender.formats import FORMATS, head, rate, refuse_hdf5, refuse_outside
from helix4d.assets.blender.materials import BlenderMaterials
from helix4d.assets.blender.meshes import Triangles, joined, padded, read_scene
from helix4d.assets.blender.printed import losses, without_folders
from helix4d.assets.blender.rendered import at_frame, prepare
from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame, Topology
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.limits import Limits
from helix4d.assets.sequence import FRAMES_PER_S, sequence_files
from helix4d.assets.skeleton import Skeleton, UpAxis
from helix4d.assets.stretch import StretchCheck
from helix4d.assets.surface import Poser
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array
from helix4d.core.captured import captured_output
from helix4d.core.messages import reproducible
from helix4d.core.storage import fault_in, is_fault

_LOG = logging.getLogger(__name__)


class BlenderAsset:
    """A file imported into an empty Blender session: one timeline.

    Args:
        path: path of the file.
        limits: upper bounds on its size.
        root: folder that its references must not leave; its own folder if None.

    Raises:
        AssetError: not_gltf for a file of another format, corrupt_file if the import fails, uri_outside_asset.
    """

    def __init__(self, path: Path, limits: Limits, root: Path | None = None) -> None:
        import bpy

        self._bpy = bpy
        self._path = path
        self._limits = limits
        self._root = root or (path if path.is_dir() else path.parent)
        self._materials = BlenderMaterials(path, limits, self._root, shows_colors=path.suffix.lower() == ".abc")
        self._warnings: dict[str, None] = {}
        self._is_captured = False
        self._newer: str | None = None
        self._skeleton: Skeleton | None = None
        self._up_axis: UpAxis | None = None
        self._empty()
        self._load()

    def _empty(self) -> None:
        self._bpy.ops.wm.read_factory_settings(use_empty=True)
        self._bpy.context.preferences.filepaths.use_scripts_auto_execute = False

    def _load(self) -> None:
        bpy, path = self._bpy, self._path
        suffix = path.suffix.lower()
        file_format = FORMATS[suffix]
        start = head(path)
        refuse_hdf5(path, start)
        if not file_format.looks_right(start):
            raise AssetError(ReasonCode.NOT_GLTF, f"is not a {file_format.name} file: its suffix may be wrong", path)
        self._reader = file_format.name
        if suffix == ".blend":
            self._check_blend_file()
        self._import(file_format.read, path)
        refuse_outside(bpy, path, self._root)
        refuse_disk_access(bpy, path, self._root)
        self._rate = rate(bpy)
        self._skeleton, self._up_axis = file_format.skeleton(bpy), file_format.up_axis
        span = file_format.timeline(bpy)
        self.clips = [ClipInfo(0, "", span[0] / self._rate, span[1] / self._rate)] if span else []

    def _check_blend_file(self) -> None:
        self._newer = newer_version(self._path, self._bpy.app.version)
        if self._newer is not None:
            self._warnings.setdefault(f"{self._newer}: features that it added may be missing")
        refuse_outside_libraries(self._path, self._root)
        try:
            with self._printed():
                refuse_before_opening(self._bpy, self._path.resolve(), self._root)
        except (OSError, RuntimeError) as error:
            if is_fault(error):
                raise
            _LOG.debug("%s: cannot be linked", self._path)  # opening it fails too, and says why
        self._empty()

    def _import(self, read: Callable[[Any, str], set[str]], path: Path) -> None:
        file = str(path.resolve())
        try:
            with self._printed():
                result = read(self._bpy, file)
        except RuntimeError as error:  # bpy converts any exception of the importer to this
            if fault := fault_in(str(error), path):
                raise fault from error
            if self._newer is not None:
                raise AssetError(ReasonCode.UNSUPPORTED_VERSION, f"{self._newer}: {SAVE_AGAIN}", path) from error
            message = f"Blender cannot import the file ({self._reason(error, file)})"
            raise AssetError(ReasonCode.CORRUPT_FILE, message, path) from error
        if "FINISHED" not in result:
            raise AssetError(ReasonCode.CORRUPT_FILE, "Blender cannot import the file", path)
        prepare(self._bpy)

    def _reason(self, error: RuntimeError, file: str) -> str:
        """Return why an import failed: the end of Blender's message, which repeats the name of the file before it."""
        line = reproducible((str(error).strip().splitlines() or ["no reason given"])[-1])
        text = line.rpartition(file)[2] if file in line else line
        return without_folders(text, *self._folders()).strip(" '\",:")[:200] or "no reason given"

    @contextmanager
    def _printed(self) -> Iterator[None]:
        """Turn what Blender prints during the block into warnings; blocks may be nested."""
        if self._is_captured:
            yield
            return
        with captured_output(1, 2) as output:
            self._is_captured = True
            try:
                yield
            finally:
                self._is_captured = False
                text = output.head()
        _LOG.debug("%s", text)
        for loss in losses(text, *self._folders()):
            self._warnings.setdefault(loss)

    def _folders(self) -> list[str]:
        return [str(folder.resolve()) for folder in (self._path.parent, self._root)]

    def require_visible(self) -> None:
        """Raise no_mesh if there is no animation, and the current frame shows nothing."""
        if not self.clips and not len(self._moment(self._current_time()).positions):
            raise self._no_mesh()

    def require_animation(self) -> None:
        """Raise no_animation if nothing is animated."""
        if not self.clips:
            raise AssetError(ReasonCode.NO_ANIMATION, "has no animation", self._path)

    def _current_time(self) -> float:
        return float(self._bpy.context.scene.frame_current / self._rate)

    def _no_mesh(self) -> AssetError:
        return AssetError(ReasonCode.NO_MESH, "shows no mesh with faces", self._path)

    def poser(self, index: int) -> Poser:
        """Return a function that poses the clip."""
        return lambda times: self._frames(times, None, None)[0]

    def bake(self, index: int | None, times: Float64Array) -> Clip:
        """Bake the animation at (T,) times in seconds; the current frame of the scene for an index of None.

        Raises:
            AssetError: out_of_memory, no_mesh, empty_geometry, degenerate_geometry, non_finite_geometry,
                precision_loss, texture_too_large.
        """
        shown = np.full(len(times), self._current_time()) if index is None else times
        check, stretch = GeometryCheck(self._path), StretchCheck()
        with np.errstate(over="ignore", invalid="ignore"), self._printed():
            baked, unposed = self._frames(shown, check, stretch)
        if not any(len(frame.faces) for frame in baked):
            raise self._no_mesh()
        check.finish(unposed)
        return Clip(
            name="",
            index=0,
            times=times,
            frames=baked,
            materials=self._materials.materials,
            images=self._materials.images,
            extras={"generator": f"Blender {self._bpy.app.version_string} {self._reader} importer"},
            warnings=(*self._warnings, *self._materials.warnings, *stretch.warnings()),
            skeleton=self._skeleton,
            up_axis=self._up_axis,
        )

    def _frames(
        self, times: Float64Array, check: GeometryCheck | None, stretch: StretchCheck | None
    ) -> tuple[tuple[Frame, ...], list[Float64Array]]:
        frames: list[Frame] = []
        unposed: list[Float64Array] = []
        for time in times:
            moment = self._moment(float(time))
            if len(moment.positions) * len(times) > self._limits.frame_vertices:
                raise AssetError(
                    ReasonCode.OUT_OF_MEMORY,
                    f"{len(times)} frames of {len(moment.positions):,} vertices are more than the limit of "
                    f"{self._limits.frame_vertices:,} vertices in all frames",
                    self._path,
                )
            faces = np.arange(len(moment.positions), dtype=np.int32).reshape(-1, 3)
            topology = Topology(faces, moment.uvs, moment.material_ids, moment.colors)
            if frames and _same(frames[-1].topology, topology):
                topology = frames[-1].topology
            if check is not None:
                check.add(moment.positions, faces, moment.rounding)
            if stretch is not None:
                stretch.add(moment.deformed)
            frames.append(Frame(moment.positions.astype(np.float32), moment.normals.astype(np.float32), topology))
            unposed = unposed or moment.unposed
        return _with_equal_uv_sets(frames, len(self._materials.uv_sources)), unposed

    def _moment(self, time: float) -> Triangles:
        seen: set[object] = set()
        try:
            with self._printed():
                found = at_frame(self._bpy, time * self._rate, lambda graph: read_scene(graph, self._materials, seen))
        except RuntimeError as error:
            message = f"Blender cannot evaluate the scene ({self._reason(error, str(self._path.resolve()))})"
            raise AssetError(ReasonCode.CORRUPT_FILE, message, self._path) from error
        return joined([row for rows in found for row in rows])


class ObjSequence(BlenderAsset):
    """A folder of numbered .obj files, one per frame; at any time the nearest is shown. Their topologies may differ.

    Raises:
        AssetError: not_gltf if the folder is not a sequence, out_of_memory if it exceeds a limit.
    """

    def _load(self) -> None:
        self._frames_on_disk = sequence_files(self._path)
        total = sum(path.stat().st_size for path in self._frames_on_disk)
        if total > self._limits.file_bytes:
            message = f"has {total:,} bytes, more than the limit of {self._limits.file_bytes:,}"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, message, self._path)
        self._reader, self._rate, self._shown_frame = "OBJ", FRAMES_PER_S, -1
        self.clips = [ClipInfo(0, "", 0.0, (len(self._frames_on_disk) - 1) / FRAMES_PER_S)]

    def require_visible(self) -> None:
        """Raise no_mesh if the first frame has no faces."""
        if not len(self._moment(0.0).positions):
            raise self._no_mesh()

    def _moment(self, time: float) -> Triangles:
        number = min(max(round(time * self._rate), 0), len(self._frames_on_disk) - 1)
        if number != self._shown_frame:
            self._empty()
            refuse_outside_materials(self._frames_on_disk[number], self._root)
            self._import(_read_obj, self._frames_on_disk[number])
            self._shown_frame = number
        return super()._moment(0.0)


def _read_obj(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.obj_import(filepath=file)
    return result


def _with_equal_uv_sets(frames: list[Frame], sets: int) -> tuple[Frame, ...]:
    """Return frames in which topologies have all UV sets of the clip: the material of a later frame may add one."""
    whole = {
        id(frame.topology): replace(frame.topology, uvs=padded(frame.topology.uvs, sets))
        if len(frame.topology.uvs) < sets
        else frame.topology
        for frame in frames
    }
    return tuple(replace(frame, topology=whole[id(frame.topology)]) for frame in frames)


def _same(one: Topology, two: Topology) -> bool:
    return (
        len(one.faces) == len(two.faces)
        and np.array_equal(one.material_ids, two.material_ids)
        and np.array_equal(one.uvs, two.uvs)
        and (one.colors is None) == (two.colors is None)
        and (one.colors is None or two.colors is None or np.array_equal(one.colors, two.colors))
    )
