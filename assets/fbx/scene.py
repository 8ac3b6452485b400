"""Finds the visible nodes with meshes, and their transforms in the clip's axes and in meters.

Matrices multiply row vectors from the right.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.fbx.binding import item, items, kept, matrix
from helix4d.assets.fbx.shapes import Shape
from helix4d.assets.limits import Limits
from helix4d.assets.skeleton import Skeleton, UpAxis
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_CENTIMETER = 0.01
_UP_AXES: tuple[UpAxis, ...] = ("X", "-X", "Y", "-Y", "Z", "-Z")
"""Axes in the order of ufbx's `CoordinateAxis`."""
_BLENDER = (ufbx.Exporter.BLENDER_BINARY, ufbx.Exporter.BLENDER_ASCII)
_IGNORED_WARNINGS = (ufbx.WarningType.MISSING_EXTERNAL_FILE, ufbx.WarningType.DUPLICATE_CONNECTION)
_UNSUPPORTED = (
    ("nurbs_surfaces", "NURBS surfaces"),
    ("nurbs_trim_surfaces", "trimmed NURBS surfaces"),
    ("procedural_geometries", "procedural geometries"),
)


@dataclass(frozen=True, eq=False)
class Part:
    """A node that shows a mesh.

    Attributes:
        node: index of the node.
        lineage: indices of the nodes that determine its visibility: itself, and those that it inherits from.
        shape: the mesh.
    """

    node: int
    lineage: tuple[int, ...]
    shape: Shape


class Scene:
    """Everything that a file shows.

    Args:
        scene: scene of ufbx.
        path: path of the file, for errors.
        limits: upper bounds on its size.
        warn: receives messages about unsupported features.

    Attributes:
        parts: what is shown.
        movers: elements that may move, deform or hide a part.
        from_blender: whether Blender wrote the file.
        to_clip: (4, 4) matrix from the world of the file to the clip's axes and meters.

    Raises:
        AssetError: out_of_memory if it exceeds a limit, unsupported_extension if a mesh is deformed by a geometry
            cache.
        BrokenMeshError: if the arrays of a mesh are inconsistent.
    """

    def __init__(self, scene: Any, path: Path, limits: Limits, warn: Callable[[str], None]) -> None:
        self._scene, self._path, self._limits, self._warn = scene, path, limits, warn
        self.from_blender = scene.metadata.exporter in _BLENDER
        self._check_size()
        self._warn_of_unsupported()
        self.to_clip = _to_clip(scene.settings, warn)
        self._shapes: dict[tuple[int, ...], Shape] = {}
        self._skinned: set[int] = set()
        self.parts = tuple(self._found())
        self.movers = frozenset(self._moving())

    def shown(self, posed: Any) -> Iterator[tuple[Part, Float64Array]]:
        """Yield the visible parts of an evaluated scene, and the (4, 4) matrices of their nodes, in its world."""
        visible: dict[int, bool] = {}
        for part in self.parts:
            for number in part.lineage:
                if number not in visible:
                    visible[number] = bool(item(posed.nodes, number).visible)
            if all(visible[number] for number in part.lineage):
                yield part, matrix(item(posed.nodes, part.node).geometry_to_world)

    def skeleton(self) -> Skeleton:
        """Return the nodes that are bones or deform vertices; skinned if a part is deformed by one."""
        bones = [node for bone in items(self._scene.bones) for node in items(bone.instances)]
        followed = [node for part in self.parts for node in part.shape.bones]
        names = {node.typed_id: node.name for node in (*bones, *followed)}
        return Skeleton.of((names[number] for number in sorted(names)), len(names), bool(followed))

    def up_axis(self) -> UpAxis | None:
        """Return the up axis that the file states, or None."""
        axis = self._scene.settings.axes.up
        return _UP_AXES[axis] if 0 <= axis < len(_UP_AXES) else None

    def _check_size(self) -> None:
        scene, limits = self._scene, self._limits
        meshes = list(items(scene.meshes))
        found = (
            ("nodes", len(scene.nodes), limits.nodes),
            ("takes", len(scene.anim_stacks), limits.animations),
            ("vertices", sum(mesh.num_vertices for mesh in meshes), limits.vertices),
            ("triangles", sum(mesh.num_triangles for mesh in meshes), limits.triangles),
            ("offsets of blend shapes", sum(s.num_offsets for s in items(scene.blend_shapes)), limits.morph_values),
            ("parts", sum(len(mesh.instances) for mesh in meshes), limits.primitives),
        )
        for name, count, most in found:
            if count > most:
                message = f"has {count:,} {name}, more than the limit of {most:,}"
                raise AssetError(ReasonCode.OUT_OF_MEMORY, message, self._path)

    def _warn_of_unsupported(self) -> None:
        scene = self._scene
        for warning in scene.metadata.warnings:
            if warning.type not in _IGNORED_WARNINGS:
                self._warn(f"ufbx: {warning.description}")
        for kind, name in _UNSUPPORTED:
            if len(getattr(scene, kind)):
                self._warn(f"{name} are not supported: not shown")
        for constraint in items(scene.constraints):
            if constraint.active and constraint.weight > 0:
                self._warn(f"{constraint.name}: constraints are not evaluated: {constraint.type_name} is ignored")

    def _found(self) -> Iterator[Part]:
        hidden = self._hidden_nodes()
        for node in items(self._scene.nodes):
            meshes = [found for found in items(node.all_attribs) if isinstance(found, ufbx.Mesh)]
            if not meshes or not node.props.find_bool("Show", True):
                continue
            lineage = _lineage(node)
            if any(ancestor.element_id in hidden for ancestor in lineage):
                continue
            numbers = tuple(ancestor.typed_id for ancestor in self._inherited(lineage))
            for mesh in meshes:
                self._check_mesh(mesh)
                if mesh.num_faces and not self._is_repeated(mesh):
                    yield Part(node.typed_id, numbers, self._shape(mesh, node))

    def _check_mesh(self, mesh: Any) -> None:
        if len(mesh.cache_deformers):
            message = (
                f"mesh {mesh.name!r} is deformed by a geometry cache, which is not supported: "
                "export it with blend shapes, or as Alembic"
            )
            raise AssetError(ReasonCode.UNSUPPORTED_EXTENSION, message, self._path)
        if not mesh.num_faces:
            self._warn(f"mesh {mesh.name!r}: has no faces: not shown")
        if len(mesh.skin_deformers) > 1:
            self._warn(f"mesh {mesh.name!r}: has {len(mesh.skin_deformers)} skins: the first is used")
        if mesh.subdivision_display_mode > ufbx.SubdivisionDisplayMode.HULL:
            self._warn(f"mesh {mesh.name!r}: is a subdivision surface: shown as its control cage")

    def _is_repeated(self, mesh: Any) -> bool:
        """Return whether a skinned mesh is already shown: all its instances have the positions given by the bones."""
        if not len(mesh.skin_deformers):
            return False
        seen = mesh.element_id in self._skinned
        self._skinned.add(mesh.element_id)
        return seen

    def _shape(self, mesh: Any, node: Any) -> Shape:
        materials = list(items(node.materials if len(node.materials) else mesh.materials))
        key = mesh.typed_id, *(-1 if found is None else found.typed_id for found in materials)
        if key not in self._shapes:
            self._shapes[key] = Shape(mesh, materials, self._warn)
        return self._shapes[key]

    def _hidden_nodes(self) -> set[int]:
        """Return the nodes that are never shown with their descendants: hidden layers and coarser levels of detail."""
        hidden = {
            node.element_id
            for layer in items(self._scene.display_layers)
            if not layer.visible
            for node in items(layer.nodes)
        }
        for group in items(self._scene.lod_groups):
            levels = group.lod_levels
            for owner in items(group.instances):
                for number, child in enumerate(items(owner.children)):
                    mode = levels[number].display if number < len(levels) else ufbx.LodDisplay.USE_LOD
                    if mode == ufbx.LodDisplay.HIDE or (mode == ufbx.LodDisplay.USE_LOD and number > 0):
                        hidden.add(child.element_id)
                        self._warn(f"{child.name}: is a coarser level of detail: not shown")
        return hidden

    def _inherited(self, lineage: list[Any]) -> Iterator[Any]:
        """Yield the nodes that determine the visibility of the first; in Blender, objects do not inherit it."""
        for node in lineage:
            yield node
            if self.from_blender or not node.props.find_int("Visibility Inheritance", 1):
                return

    def _moving(self) -> set[int]:
        found: set[int] = set()
        for part in self.parts:
            found.update(part.shape.channels)
            for node in (item(self._scene.nodes, part.node), *part.shape.bones):
                while node is not None and node.element_id not in found:
                    found.add(node.element_id)
                    node = kept(node.parent)
        return found


def _lineage(node: Any) -> list[Any]:
    """Return a node and its ancestors."""
    found = []
    while node is not None:
        found.append(node)
        node = kept(node.parent)
    return found


def _to_clip(settings: Any, warn: Callable[[str], None]) -> Float64Array:
    """Return the (4, 4) matrix to right-handed axes with Z up and Y to the back, in meters."""
    axes, meters = settings.axes, float(settings.unit_meters)
    if sorted(axis // 2 for axis in axes) != [0, 1, 2]:
        warn("its axes are not stated: assuming that Y is up and Z points to the front")
        axes = ufbx.axes_right_handed_y_up
    if not (np.isfinite(meters) and meters > 0):
        warn("its unit is not a positive length: assuming centimeters")
        meters = _CENTIMETER
    found = np.eye(4)
    found[:3, :3] = meters * np.stack([_axis(axes.right), -_axis(axes.front), _axis(axes.up)], axis=1)
    return found


def _axis(axis: int) -> Float64Array:
    """Return the (3,) unit vector of an axis: +X, −X, +Y, −Y, +Z, −Z."""
    found = np.zeros(3)
    found[axis // 2] = -1.0 if axis % 2 else 1.0
    return found
