"""Turns files that only Blender reads into `Clip`s with its importers; the only file here that imports bpy.

Blender's state is global to the process: opening a file clears it, so only the asset opened last can be baked. Scripts
in files are never run. A frame is the triangulated result of Blender's dependency graph, with separate corners, so that
it can have per-corner normals.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from helix4d.assets.blender.disk_access import (
    images_inside,
    refuse_before_opening,
    refuse_disk_access,
    refuse_outside_images,
    refuse_outside_libraries,
    refuse_outside_materials,
)
from helix4d.assets.blender.formats import FORMATS, check_end, head, rate, refuse_outside
from helix4d.assets.blender.materials import BlenderMaterials
from helix4d.assets.choice import ClipInfo
from helix4d.assets.clip import Clip, Frame, Topology
from helix4d.assets.geometry_check import GeometryCheck
from helix4d.assets.limits import Limits
from helix4d.assets.sequence import FRAMES_PER_S, sequence_files
from helix4d.assets.surface import motion_of_times
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float32Array, Float64Array, Int32Array
from helix4d.core.messages import reproducible
from helix4d.core.storage import fault_in, is_fault

_LOG = logging.getLogger(__name__)

T = TypeVar("T", bound=np.generic)


@dataclass(frozen=True, eq=False)
class _Moment:
    """A frame in float64: (3F, 3) positions and normals of separate corners."""

    positions: Float64Array
    normals: Float64Array
    uvs: Float32Array
    material_ids: Int32Array
    unposed: list[Float64Array]
    rounding: float


class BlenderAsset:
    """A file imported into an empty Blender session. FBX files have named clips; other formats have one timeline.

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
        self._actions: dict[str, list[tuple[Any, Any]]] = {}
        self._empty()
        self._load()

    def _empty(self) -> None:
        self._bpy.ops.wm.read_factory_settings(use_empty=True)
        self._bpy.context.preferences.filepaths.use_scripts_auto_execute = False

    def _load(self) -> None:
        bpy, path = self._bpy, self._path
        suffix = path.suffix.lower()
        file_format = FORMATS[suffix]
        if not file_format.looks_right(head(path)):
            raise AssetError(ReasonCode.NOT_GLTF, f"is not a {file_format.name} file: its suffix may be wrong", path)
        check_end(path)
        self._reader = file_format.name.removeprefix("binary ")
        if suffix == ".blend":
            self._check_blend_file()
        elif suffix == ".dae":
            refuse_outside_images(path, self._root)
        with images_inside(self._root):
            self._import(file_format.read, path)
        refuse_outside(bpy, path, self._root)
        refuse_disk_access(bpy, path, self._root)
        self._rate = rate(bpy)
        if suffix == ".fbx":
            self._actions = _grouped_actions(bpy)
            spans = {
                name: (
                    float(min(action.frame_range[0] for _, action in members)),
                    float(max(action.frame_range[1] for _, action in members)),
                )
                for name, members in self._actions.items()
            }
        else:
            span = file_format.timeline(bpy)
            spans = {"": span} if span else {}
        self.clips = [
            ClipInfo(number, name, start / self._rate, end / self._rate)
            for number, (name, (start, end)) in enumerate(spans.items())
        ]

    def _check_blend_file(self) -> None:
        refuse_outside_libraries(self._path, self._root)
        try:
            refuse_before_opening(self._bpy, self._path.resolve(), self._root)
        except (OSError, RuntimeError) as error:
            if is_fault(error):
                raise
            _LOG.debug("%s: cannot be linked", self._path)  # opening it fails too, and says why
        self._empty()

    def _import(self, read: Callable[[Any, str], set[str]], path: Path) -> None:
        output = io.StringIO()
        try:
            with contextlib.redirect_stdout(output):
                result = read(self._bpy, str(path.resolve()))
        except RuntimeError as error:  # bpy converts any exception of the importer to this
            if fault := fault_in(str(error), path):
                raise fault from error
            reason = reproducible((str(error).strip().splitlines() or ["no reason given"])[-1])[:200]
            raise AssetError(ReasonCode.CORRUPT_FILE, f"Blender cannot import the file ({reason})", path) from error
        finally:
            _LOG.debug("%s", output.getvalue())
        if "FINISHED" not in result:
            raise AssetError(ReasonCode.CORRUPT_FILE, "Blender cannot import the file", path)

    def require_visible_animation(self) -> None:
        """Raise no_mesh or no_animation if there is nothing to bake."""
        if not any(item.type == "MESH" and len(item.data.polygons) for item in self._bpy.context.scene.objects):
            raise AssetError(ReasonCode.NO_MESH, "has no mesh with faces", self._path)
        if not self.clips:
            raise AssetError(ReasonCode.NO_ANIMATION, "has no animation", self._path)

    def probe_motion(self, index: int) -> float:
        """Return `assets.motion` of a clip at 16 times; −1 if it is not finite."""
        info = self.clips[index]
        return motion_of_times(info.start, info.end, lambda times: self._frames(index, times, None, None)[0])

    def bake(self, index: int, frames: int) -> Clip:
        """Bake one animation at `frames` times.

        Raises:
            AssetError: out_of_memory, empty_geometry, degenerate_geometry, non_finite_geometry, precision_loss,
                texture_too_large.
        """
        info = self.clips[index]
        times = np.linspace(info.start, info.end, frames)
        materials = BlenderMaterials(self._path, self._limits, self._root)
        check = GeometryCheck(self._path)
        with np.errstate(over="ignore", invalid="ignore"):
            baked, unposed = self._frames(index, times, materials, check)
        check.finish(unposed)
        return Clip(
            name=info.name,
            index=index,
            times=times,
            frames=baked,
            materials=tuple(materials.materials),
            images=tuple(materials.images),
            extras={"generator": f"Blender {self._bpy.app.version_string} {self._reader} importer"},
            warnings=tuple(materials.warnings),
        )

    def _frames(
        self, index: int, times: Float64Array, materials: BlenderMaterials | None, check: GeometryCheck | None
    ) -> tuple[tuple[Frame, ...], list[Float64Array]]:
        self._play(index)
        frames: list[Frame] = []
        unposed: list[Float64Array] = []
        for time in times:
            moment = self._moment(float(time), materials)
            if len(moment.positions) * len(times) > self._limits.frame_vertices:
                raise AssetError(
                    ReasonCode.OUT_OF_MEMORY,
                    f"{len(times)} frames of {len(moment.positions):,} vertices are more than the limit of "
                    f"{self._limits.frame_vertices:,} vertices in all frames",
                    self._path,
                )
            faces = np.arange(len(moment.positions), dtype=np.int32).reshape(-1, 3)
            topology = Topology(faces, moment.uvs, moment.material_ids)
            if frames and _same(frames[-1].topology, topology):
                topology = frames[-1].topology
            if check is not None:
                check.add(moment.positions, faces, moment.rounding)
            frames.append(Frame(moment.positions.astype(np.float32), moment.normals.astype(np.float32), topology))
            unposed = unposed or moment.unposed
        return tuple(frames), unposed

    def _play(self, index: int) -> None:
        """Assign only the actions of the given clip to objects and shape keys, if the file has named clips."""
        if not self._actions:
            return
        bpy = self._bpy
        members = list(self._actions.values())[index]
        for block in (*bpy.data.objects, *bpy.data.shape_keys):
            if block.animation_data is not None:
                block.animation_data.action = None
        for block, action in members:
            (block.animation_data or block.animation_data_create()).action = action

    def _moment(self, time: float, materials: BlenderMaterials | None) -> _Moment:
        self._show(time)
        graph = self._bpy.context.evaluated_depsgraph_get()
        rows = [_read_object(instance, materials) for instance in _shown(graph)]
        if not rows:
            empty = np.zeros((0, 3))
            return _Moment(empty, empty, np.zeros((1, 0, 3, 2), np.float32), np.zeros(0, np.int32), [], 0.0)
        return _Moment(
            positions=np.concatenate([row.positions for row in rows]),
            normals=np.concatenate([row.normals for row in rows]),
            uvs=np.concatenate([row.uvs for row in rows], axis=1),
            material_ids=np.concatenate([row.material_ids for row in rows]),
            unposed=[triangles for row in rows for triangles in row.unposed],
            rounding=max(row.rounding for row in rows),
        )

    def _show(self, time: float) -> None:
        frame = time * self._rate
        whole = int(np.floor(frame + 1e-6))
        self._bpy.context.scene.frame_set(whole, subframe=min(max(frame - whole, 0.0), 0.999999))


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

    def require_visible_animation(self) -> None:
        """Raise no_mesh if the first frame has no faces."""
        self._show(0.0)
        super().require_visible_animation()

    def _show(self, time: float) -> None:
        number = min(max(round(time * self._rate), 0), len(self._frames_on_disk) - 1)
        if number != self._shown_frame:
            self._empty()
            refuse_outside_materials(self._frames_on_disk[number], self._root)
            self._import(_read_obj, self._frames_on_disk[number])
            self._shown_frame = number


def _read_obj(bpy: Any, file: str) -> set[str]:
    result: set[str] = bpy.ops.wm.obj_import(filepath=file)
    return result


def _grouped_actions(bpy: Any) -> dict[str, list[tuple[Any, Any]]]:
    """Return the clips by name: the actions of one FBX stack, each with the object or shape key that it animates.

    The importer names an action `block|stack|layer`; the names of blocks may contain bars themselves.
    """
    blocks = sorted((*bpy.data.objects, *bpy.data.shape_keys), key=lambda block: -len(block.name))
    clips: dict[str, list[tuple[Any, Any]]] = {}
    for action in bpy.data.actions:
        owner = next((block for block in blocks if action.name.startswith(f"{block.name}|")), None)
        if owner is None:  # a long name was truncated: fall back to the block that uses the action
            owner = next((b for b in blocks if b.animation_data and b.animation_data.action == action), None)
        if owner is not None:
            clips.setdefault(action.name.removeprefix(f"{owner.name}|"), []).append((owner, action))
    return clips


def _shown(graph: Any) -> Iterator[Any]:
    for instance in graph.object_instances:
        if instance.object.type == "MESH" and instance.show_self and not instance.object.hide_render:
            yield instance


def _read_object(instance: Any, materials: BlenderMaterials | None) -> _Moment:
    item = instance.object
    world = np.array(instance.matrix_world, np.float64)
    mesh = item.to_mesh()
    try:
        mesh.calc_loop_triangles()
        count = len(mesh.loop_triangles)
        loops = _column(mesh.loop_triangles, "loops", 3 * count, np.int32)
        polygons = _column(mesh.loop_triangles, "polygon_index", count, np.int32)
        vertices = _column(mesh.vertices, "co", 3 * len(mesh.vertices), np.float32).reshape(-1, 3)
        corner_vertices = _column(mesh.loops, "vertex_index", len(mesh.loops), np.int32)
        corner_normals = _column(mesh.corner_normals, "vector", 3 * len(mesh.loops), np.float32).reshape(-1, 3)
        slots = _column(mesh.polygons, "material_index", len(mesh.polygons), np.int32)[polygons]
        uvs = np.zeros((1, count, 3, 2), np.float32)
        if mesh.uv_layers.active is not None:
            layer = _column(mesh.uv_layers.active.data, "uv", 2 * len(mesh.loops), np.float32).reshape(-1, 2)
            uvs[0] = layer[loops].reshape(-1, 3, 2)
            uvs[0, ..., 1] = 1.0 - uvs[0, ..., 1]  # v points up in Blender
        local = vertices[corner_vertices[loops]].astype(np.float64)
        normals = corner_normals[loops].astype(np.float64)
        ids = np.zeros(count, np.int32)
        if materials is not None:
            table = [materials.slot(slot.material) for slot in item.material_slots] or [materials.slot(None)]
            ids = np.array(table, np.int32)[np.minimum(slots, len(table) - 1)]
    finally:
        item.to_mesh_clear()
    linear = world[:3, :3]
    turn = np.stack([np.cross(linear[:, (n + 1) % 3], linear[:, (n + 2) % 3]) for n in range(3)], axis=1)
    positions = local @ linear.T + world[:3, 3]
    normals = normals @ turn.T
    if np.linalg.det(linear) < 0:  # mirrored: flip the triangles, and the sign of the cofactor matrix
        order = np.arange(3 * count).reshape(-1, 3)[:, [0, 2, 1]].reshape(-1)
        positions, normals, uvs = positions[order], -normals[order], uvs[:, :, [0, 2, 1]]
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])
    step = float(np.spacing(np.abs(vertices).max(initial=np.float32(0)))) * float(np.linalg.norm(linear))
    return _Moment(positions, normals, np.ascontiguousarray(uvs), ids, [local.reshape(-1, 3, 3)], step)


def _column(collection: Any, name: str, size: int, dtype: type[T]) -> NDArray[T]:
    values = np.empty(size, dtype)
    collection.foreach_get(name, values)
    return values


def _same(one: Topology, two: Topology) -> bool:
    return (
        len(one.faces) == len(two.faces)
        and np.array_equal(one.material_ids, two.material_ids)
        and np.array_equal(one.uvs, two.uvs)
    )
