"""Reads evaluated objects of Blender as triangles with separate corners, so that each has its own normal."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from helix4d.assets.blender.materials import ANY_COLOR, BlenderMaterials, Look, UvSource
from helix4d.assets.blender.rendered import shapes
from helix4d.core.arrays import Float32Array, Float64Array, Int32Array, IntArray

T = TypeVar("T", bound=np.generic)

SURFACES = frozenset({"MESH", "CURVE", "SURFACE", "FONT", "META"})
"""Types of objects that render as meshes."""
_LEFT_OUT = {
    "CURVES": "hair curves",
    "POINTCLOUD": "a point cloud",
    "VOLUME": "a volume",
    "GPENCIL": "a Grease Pencil drawing",
    "GREASEPENCIL": "a Grease Pencil drawing",
}
_FIELDS = {
    "FLOAT": ("value", 1),
    "INT": ("value", 1),
    "FLOAT2": ("vector", 2),
    "FLOAT_VECTOR": ("vector", 3),
    "FLOAT_COLOR": ("color", 4),
    "BYTE_COLOR": ("color", 4),
}
"""Member and width of attributes by type; colors are linear in both."""


@dataclass(frozen=True, eq=False)
class Triangles:
    """F triangles with separate corners, in float64.

    Attributes:
        positions, normals: (3F, 3).
        uvs: (S, F, 3, 2) float32, v down.
        material_ids: (F,) int32.
        colors: (F, 3, 4) float32, or None if all are white.
        unposed: (F, 3, 3) triangles of each mesh in its own space.
        deformed: (F, 3, 3) triangles of deformed meshes before and after, in their own space.
        rounding: largest error of the positions due to float32 rounding in the file.
    """

    positions: Float64Array
    normals: Float64Array
    uvs: Float32Array
    material_ids: Int32Array
    colors: Float32Array | None
    unposed: list[Float64Array]
    deformed: list[tuple[Float64Array, Float64Array]]
    rounding: float


def read_scene(graph: Any, materials: BlenderMaterials, seen: set[object]) -> list[Triangles]:
    """Read everything that a camera sees in a view layer.

    Args:
        graph: dependency graph of the view layer.
        materials: materials, which are extended.
        seen: instances of other view layers, which are left out; extended.
    """
    known: dict[tuple[object, ...], Triangles] = {}
    override = graph.view_layer.material_override
    rows = []
    for instance in shapes(graph, seen):
        item = instance.object
        _warn_of_unsupported(item, materials.warn)
        if item.type not in SURFACES:
            continue
        # Instances share their mesh, if not the materials of their slots.
        source = item.data.as_pointer() if item.type == "MESH" else item.name_full
        key = source, tuple(slot.material and slot.material.name_full for slot in item.material_slots)
        if key not in known:
            known[key] = _read_object(item, materials, override)
        rows.append(_placed(known[key], np.array(instance.matrix_world, np.float64)))
    return rows


def joined(rows: list[Triangles]) -> Triangles:
    """Concatenate triangles; without any, the result has no UV sets."""
    if not rows:
        empty, no_uvs = np.zeros((0, 3)), np.zeros((0, 0, 3, 2), np.float32)
        return Triangles(empty, empty, no_uvs, np.zeros(0, np.int32), None, [], [], 0.0)
    sets = max(len(row.uvs) for row in rows)  # a material of a later object may have added one
    has_colors = any(row.colors is not None for row in rows)
    return Triangles(
        positions=np.concatenate([row.positions for row in rows]),
        normals=np.concatenate([row.normals for row in rows]),
        uvs=np.concatenate([padded(row.uvs, sets) for row in rows], axis=1),
        material_ids=np.concatenate([row.material_ids for row in rows]),
        colors=np.concatenate([_colors(row) for row in rows]) if has_colors else None,
        unposed=[triangles for row in rows for triangles in row.unposed],
        deformed=[pair for row in rows for pair in row.deformed],
        rounding=max(row.rounding for row in rows),
    )


def padded(uvs: Float32Array, sets: int) -> Float32Array:
    """Return (S, F, 3, 2) UVs with zeros for the sets that are missing."""
    if len(uvs) == sets:
        return uvs
    return np.concatenate([uvs, np.zeros((sets - len(uvs), *uvs.shape[1:]), np.float32)])


def _colors(row: Triangles) -> Float32Array:
    return np.ones((len(row.material_ids), 3, 4), np.float32) if row.colors is None else row.colors


def _warn_of_unsupported(item: Any, warn: Callable[[str], None]) -> None:
    if item.type in _LEFT_OUT:
        warn(f"object {item.name[:40]!r}: {_LEFT_OUT[item.type]} cannot be shown as a mesh: left out")
    for system in item.particle_systems:
        if system.settings.type == "HAIR" and system.settings.render_type == "PATH":
            warn(f"object {item.name[:40]!r}: the hair of {system.name[:40]!r} is not a mesh: left out")


def _read_object(item: Any, materials: BlenderMaterials, override: Any) -> Triangles:
    mesh = item.to_mesh()
    try:
        return _read_mesh(item, mesh, materials, override)
    finally:
        item.to_mesh_clear()


def _read_mesh(item: Any, mesh: Any, materials: BlenderMaterials, override: Any) -> Triangles:
    mesh.calc_loop_triangles()
    count = len(mesh.loop_triangles)
    corners = _column(mesh.loop_triangles, "loops", 3 * count, np.int32)
    polygons = _column(mesh.loop_triangles, "polygon_index", count, np.int32)
    vertices = _column(mesh.vertices, "co", 3 * len(mesh.vertices), np.float32).reshape(-1, 3)
    corner_vertices = _column(mesh.loops, "vertex_index", len(mesh.loops), np.int32)
    corner_normals = _column(mesh.corner_normals, "vector", 3 * len(mesh.loops), np.float32).reshape(-1, 3)
    slots = _column(mesh.polygons, "material_index", len(mesh.polygons), np.int32)[polygons]
    table = [materials.slot(override or slot.material) for slot in item.material_slots]
    if not table:
        table = [materials.slot(override) if override else materials.bare_slot(len(mesh.color_attributes) > 0)]
    ids = np.array(table, np.int32)[np.minimum(slots, len(table) - 1)]
    reader, sources = _Attributes(mesh, corner_vertices, corners, polygons), materials.uv_sources
    looks = {number: materials.looks[number] for number in np.unique(ids).tolist()}
    local = vertices[corner_vertices[corners]].astype(np.float64)
    return Triangles(
        positions=local,
        normals=corner_normals[corners].astype(np.float64),
        uvs=np.array([reader.uvs(source) for source in sources], np.float32).reshape(len(sources), count, 3, 2),
        material_ids=ids,
        colors=_vertex_colors(reader, ids, looks, item.name, materials.warn),
        unposed=[local.reshape(-1, 3, 3)],
        deformed=list(_deformed(item, vertices, corner_vertices[corners], len(mesh.loops))),
        rounding=float(np.spacing(np.abs(vertices).max(initial=np.float32(0)))),
    )


def _vertex_colors(
    reader: _Attributes, ids: Int32Array, looks: dict[int, Look], name: str, warn: Callable[[str], None]
) -> Float32Array | None:
    """Return the (F, 3, 4) colors that the materials of a mesh are multiplied by; None if they use none."""
    if all(look.color is None and look.opacity is None for look in looks.values()):
        return None
    colors = np.ones((len(ids), 3, 4), np.float32)
    for number, look in looks.items():
        for attribute, channels in ((look.color, slice(0, 3)), (look.opacity, slice(3, 4))):
            if attribute is None:
                continue
            values = reader.colors(attribute)
            if values is None:
                which = f"color attribute {attribute[:40]!r}" if attribute else "color attribute"
                warn(f"object {name[:40]!r}: has no {which}, which its material uses: it renders black")
                values = np.zeros((len(ids), 3, 4), np.float32)
                values[..., 3] = 1.0
            rows = ids == number
            colors[rows, :, channels] = values[rows][..., channels]
    return colors


class _Attributes:
    """Attributes of a mesh, for the corners of its triangles.

    Args:
        mesh: the mesh.
        corner_vertices: (L,) vertex of each corner.
        corners: (3F,) corners of the triangles.
        polygons: (F,) polygons of the triangles.
    """

    def __init__(self, mesh: Any, corner_vertices: IntArray, corners: IntArray, polygons: IntArray) -> None:
        self._mesh = mesh
        self._places = {"POINT": corner_vertices[corners], "CORNER": corners, "FACE": np.repeat(polygons, 3)}

    def uvs(self, source: UvSource) -> Float32Array:
        """Return (F, 3, 2) UVs with v down; zeros before the transform, like Blender, if there is no such layer."""
        layers = self._mesh.uv_layers
        name = source.layer or next((layer.name for layer in layers if layer.active_render), "")
        values = self._read(self._mesh.attributes.get(name)) if name else None
        if values is None or values.shape[1] < 2:
            values = np.zeros((len(self._places["CORNER"]), 2))
        places = values[:, :2]
        if source.matrix is not None:
            matrix = np.array(source.matrix).reshape(2, 3)
            places = places @ matrix[:, :2].T + matrix[:, 2]
        uvs = places.reshape(-1, 3, 2).astype(np.float32)
        uvs[..., 1] = 1.0 - uvs[..., 1]
        return uvs

    def colors(self, name: str) -> Float32Array | None:
        """Return (F, 3, 4) linear colors of a color attribute, "" for the active one; None if it is missing."""
        found = self._mesh.color_attributes
        index = 0 if name == ANY_COLOR else found.render_color_index
        if name in ("", ANY_COLOR):
            attribute = found[index] if 0 <= index < len(found) else None
        else:
            attribute = self._mesh.attributes.get(name)
        values = self._read(attribute)
        if values is None:
            return None
        colors = np.zeros((len(values), 4), np.float32)
        colors[:, 3] = 1.0
        width = values.shape[1]
        colors[:, : 3 if width == 1 else width] = values  # a number is gray
        return colors.reshape(-1, 3, 4)

    def _read(self, attribute: Any) -> Float64Array | None:
        """Return the (3F, W) values of an attribute; None if its type or domain has none for corners."""
        if attribute is None or attribute.data_type not in _FIELDS or attribute.domain not in self._places:
            return None
        field, width = _FIELDS[attribute.data_type]
        dtype: type[np.generic] = np.int32 if attribute.data_type == "INT" else np.float32
        values = _column(attribute.data, field, width * len(attribute.data), dtype).reshape(-1, width)
        return np.asarray(values[self._places[attribute.domain]], np.float64)


def _deformed(
    item: Any, vertices: Float32Array, corners: IntArray, loops: int
) -> Iterator[tuple[Float64Array, Float64Array]]:
    """Yield the triangles of a mesh before and after its modifiers, if these keep its topology."""
    if item.original is None or item.original.type != "MESH":
        return
    original = item.original.data
    if not (len(item.modifiers) or original.shape_keys):
        return
    if len(original.vertices) != len(vertices) or len(original.loops) != loops:
        return
    rest = _column(original.vertices, "co", 3 * len(vertices), np.float32).reshape(-1, 3)
    yield rest[corners].reshape(-1, 3, 3).astype(np.float64), vertices[corners].reshape(-1, 3, 3).astype(np.float64)


def _placed(local: Triangles, world: Float64Array) -> Triangles:
    linear = world[:3, :3]
    turn = np.stack([np.cross(linear[:, (n + 1) % 3], linear[:, (n + 2) % 3]) for n in range(3)], axis=1)
    positions = local.positions @ linear.T + world[:3, 3]
    normals = local.normals @ turn.T
    uvs, colors = local.uvs, local.colors
    if np.linalg.det(linear) < 0:  # mirrored: flip the triangles, and the sign of the cofactor matrix
        order = np.arange(len(positions)).reshape(-1, 3)[:, [0, 2, 1]].reshape(-1)
        positions, normals = positions[order], -normals[order]
        uvs = np.ascontiguousarray(uvs[:, :, [0, 2, 1]])
        colors = None if colors is None else np.ascontiguousarray(colors[:, [0, 2, 1]])
    length = np.linalg.norm(normals, axis=1, keepdims=True)
    normals = np.where(length > 0, normals / np.where(length > 0, length, 1.0), [0.0, 0.0, 1.0])
    rounding = local.rounding * float(np.linalg.norm(linear))
    return replace(local, positions=positions, normals=normals, uvs=uvs, colors=colors, rounding=rounding)


def _column(collection: Any, name: str, size: int, dtype: type[T]) -> NDArray[T]:
    values = np.empty(size, dtype)
    collection.foreach_get(name, values)
    return values
