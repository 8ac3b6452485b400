"""Reads meshes: triangles with their attributes, and vertices as blend shapes and skins place them.

A vertex of a frame is a vertex of the file with one of its normals. Subdivision surfaces are shown as control cages.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from helix4d.assets.assembly import BrokenMeshError, Local, Surface, sums, unit
from helix4d.assets.fbx.binding import NO_INDEX, indices, items, rows
from helix4d.assets.fbx.materials import Looks
from helix4d.assets.fbx.skinning import BlendShapes, Skin
from helix4d.assets.gltf.scene import cofactor
from helix4d.assets.pictures import to_linear
from helix4d.assets.polygons import triangulate
from helix4d.core.arrays import Float32Array, Float64Array, Int64Array

Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Rest:
    """A mesh in its rest pose.

    Attributes:
        positions: (P, 3) vertices of the file.
        corners: (F, 3) index of each triangle's corners among those of the file.
        polygons: (F,) index of each triangle's polygon.
        points: (V,) vertex of the file of each vertex of the frame.
        faces: (F, 3) vertices of the frame.
        normals: (V, 3) normals.
    """

    positions: Float64Array
    corners: Int64Array
    polygons: Int64Array
    points: Int64Array
    faces: Int64Array
    normals: Float64Array

    @cached_property
    def unposed(self) -> Float64Array:
        """(F, 3, 3) corners of the triangles."""
        return self.positions[self.points[self.faces]]

    @cached_property
    def own_smooth_normals(self) -> Float64Array:
        """`smooth_normals` of the rest pose."""
        return self.smooth_normals(self.positions)

    def smooth_normals(self, positions: Float64Array) -> Float64Array:
        """Return (V, 3) unit normals of (P, 3) moved vertices, smooth where corners of the file share a normal."""
        corners = positions[self.points[self.faces]]
        areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        return unit(sums(np.repeat(areas, 3, axis=0), self.faces.reshape(-1), len(self.points)))


class Shape:
    """A mesh with the materials of one or more nodes.

    Args:
        mesh: the mesh.
        materials: materials of its faces.
        warn: receives messages about unsupported features.

    Attributes:
        bones: nodes that move its vertices.
        channels: elements that deform it.

    Raises:
        BrokenMeshError: if its arrays are inconsistent.
    """

    def __init__(self, mesh: Any, materials: list[Any], warn: Warn) -> None:
        self._mesh, self._materials, self._warn = mesh, materials, warn
        self._rest: _Rest | None = None
        self._local: Local | None = None
        self._surface: Surface | None = None
        self._looks: Looks | None = None
        self._slots: dict[int, int] = {}
        self._blend = BlendShapes(mesh)
        deformers = [deformer for deformer in items(mesh.skin_deformers) if len(deformer.clusters)]
        self._skin = Skin(deformers[0], mesh.num_vertices) if deformers else None
        self.bones = self._skin.bones if self._skin else []
        self.channels = self._blend.channels

    @property
    def is_in_world(self) -> bool:
        """Whether `at` returns vertices in world space, as placed by bones, instead of in the space of the node."""
        return self._skin is not None

    def bind(self, looks: Looks) -> None:
        """Read the materials that faces refer to."""
        self._looks, self._local, self._surface = looks, None, None
        self._slots = {
            number: looks.slot(self._material(number), bool(len(self._mesh.color_sets)))
            for number in self._used_materials()
        }

    def at(self, posed: Any, node_to_world: Float64Array) -> Local:
        """Return the mesh in an evaluated scene.

        Args:
            posed: the evaluated scene.
            node_to_world: (4, 4) matrix of its node.

        Raises:
            BrokenMeshError: if indices are out of range.
        """
        if self._local is not None and not self._blend and self._skin is None:
            return self._local
        if self._rest is None:
            self._rest = self._read_rest()
        rest = self._rest
        positions = self._blend.moved(rest.positions, posed)
        normals = rest.normals
        if positions is not rest.positions:
            normals = normals + rest.smooth_normals(positions) - rest.own_smooth_normals
        mirrored = False
        if self._skin is not None:
            placement = self._skin.placement(posed, node_to_world)
            positions = placement.positions(positions)
            turns = placement.matrices[rest.points]
            turn = cofactor(turns)
            signs = np.where((turn[:, 0] * turns[:, 0]).sum(axis=1) < 0, -1.0, 1.0)  # of the determinants
            normals = np.einsum("vi,vij->vj", normals, turn) * signs[:, None]
            mirrored = bool(signs.sum() < 0)
        step = float(np.spacing(np.float32(np.abs(rest.unposed).max(initial=0.0))))
        surface = self._surface_of(rest)
        self._local = Local(positions[rest.points], unit(normals), surface, rest.unposed, step, mirrored)
        return self._local

    def _read_rest(self) -> _Rest:
        mesh = self._mesh
        positions = rows(mesh.vertices, 3)
        points = indices(mesh.vertex_indices)
        faces = rows(mesh.faces, 2).astype(np.int64)
        polygons = np.arange(len(faces))
        if len(mesh.face_hole):
            polygons = np.flatnonzero(rows(mesh.face_hole, 1) == 0)
        begins, counts = faces[polygons].T
        order = np.repeat(begins - np.cumsum(counts) + counts, counts) + np.arange(counts.sum())
        if len(order) and (order.max() >= len(points) or points[order].max() >= len(positions)):
            raise BrokenMeshError(f"mesh {mesh.name!r}: a face refers to a vertex that does not exist")
        cut = triangulate(counts, points[order], positions)
        corners = order[cut.corners]
        normals, owners = self._normals(corners, points)
        keys, faces_of = np.unique(points[corners] * max(len(normals), 1) + owners, return_inverse=True)
        used, chosen = np.divmod(keys, max(len(normals), 1))
        rest = _Rest(positions, corners, polygons[cut.polygons], used, faces_of.reshape(-1, 3), normals[chosen])
        length = np.linalg.norm(rest.normals, axis=1)
        valid = np.isfinite(length) & (length > 0)
        if valid.all():
            return rest
        own = np.where(valid[:, None], rest.normals, rest.own_smooth_normals)
        return _Rest(positions, corners, rest.polygons, used, rest.faces, own)

    def _normals(self, corners: Int64Array, points: Int64Array) -> tuple[Float64Array, Int64Array]:
        """Return (N, 3) normals, and the (F, 3) one of each corner; zeros, one a vertex, where they are unusable."""
        stored = self._mesh.vertex_normal
        normals, owners = rows(stored.values, 3), indices(stored.indices)
        if len(normals) and len(owners) == len(points) and owners[corners].max(initial=0) < len(normals):
            return normals, owners[corners]
        self._warn(f"mesh {self._mesh.name!r}: has too few normals: smooth normals are computed")
        return np.zeros((1, 3)), np.zeros_like(corners)

    def _surface_of(self, rest: _Rest) -> Surface:
        if self._surface is not None:
            return self._surface
        total = len(rest.corners)
        ids = np.zeros(total, np.int32)
        uvs = np.zeros((self._looks.uv_sets if self._looks else 0, total, 3, 2), np.float32)
        colors = self._colors(rest) if self._looks else None
        if self._looks is not None:
            ids = self._material_ids(rest).astype(np.int32)
            for slot in np.unique(ids):
                self._fill_uvs(uvs, self._looks.found[slot].uvs, ids == slot, rest)
        self._surface = Surface(rest.faces.astype(np.int32), uvs, colors, ids, len(rest.points))
        return self._surface

    def _used_materials(self) -> list[int]:
        chosen = self._mesh.face_material
        return sorted(set(indices(chosen).tolist())) if len(chosen) else [0]

    def _material(self, number: int) -> Any:
        return self._materials[number] if number < len(self._materials) else None

    def _material_ids(self, rest: _Rest) -> Int64Array:
        chosen = self._mesh.face_material
        if not len(chosen):
            return np.full(len(rest.corners), self._slots[0])
        numbers, places = np.unique(indices(chosen)[rest.polygons], return_inverse=True)
        return np.array([self._slots[int(number)] for number in numbers], np.int64)[places]

    def _fill_uvs(self, uvs: Float32Array, names: tuple[str, ...], chosen: Any, rest: _Rest) -> None:
        stored = {found.name: found.vertex_uv for found in reversed(list(self._mesh.uv_sets))}
        first = self._mesh.vertex_uv
        for number, name in enumerate(names):
            if not first.exists:
                self._warn(f"mesh {self._mesh.name!r}: has no UVs, which its material needs: 0 is used")
                continue
            if name and name not in stored and len(stored) > 1:
                self._warn(f"mesh {self._mesh.name!r}: has no UV set {name!r}: the first is used")
            values = self._corner_values(stored.get(name, first), 2, rest.corners[chosen])
            uvs[number, chosen, :, 0] = values[..., 0]
            uvs[number, chosen, :, 1] = 1.0 - values[..., 1]  # v points up in FBX

    def _colors(self, rest: _Rest) -> Float32Array | None:
        """Return (F, 3, 4) linear colors; alpha is 1, as it is not opacity in FBX."""
        if not len(self._mesh.color_sets) or not self._mesh.vertex_color.exists:
            return None
        found = np.ones((*rest.corners.shape, 4), np.float32)
        values = self._corner_values(self._mesh.vertex_color, 4, rest.corners)
        found[..., :3] = to_linear(np.clip(values[..., :3], 0.0, 1.0))
        return found

    def _corner_values(self, stored: Any, width: int, corners: Int64Array) -> Float64Array:
        """Return (F, 3, width) values of triangle corners; 0 where the file has none."""
        values, owners = rows(stored.values, width), indices(stored.indices)
        if len(owners) <= corners.max(initial=0):
            self._warn(f"mesh {self._mesh.name!r}: has too few UVs or colors: 0 is used")
            return np.zeros((*corners.shape, width))
        chosen = owners[corners]
        valid = (chosen != NO_INDEX) & (chosen < len(values))
        found = np.where(valid[..., None], values[np.where(valid, chosen, 0)] if len(values) else 0.0, 0.0)
        if not np.isfinite(found).all():
            self._warn(f"mesh {self._mesh.name!r}: UVs or colors are NaN or infinite: 0 is used")
        return np.nan_to_num(found, nan=0.0, posinf=0.0, neginf=0.0)
