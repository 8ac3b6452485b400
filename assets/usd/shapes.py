"""Reads meshes and geometric primitives at one time: points, normals, and triangles with their attributes.

Subdivision surfaces are shown as their control cages, with smooth normals unless the mesh has its own.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from pxr import Usd, UsdGeom, Vt

from helix4d.assets.assembly import BrokenMeshError, Local, Surface, sums, unit
from helix4d.assets.polygons import Triangles, triangulate
from helix4d.assets.usd import primvars
from helix4d.assets.usd.gprims import gprim
from helix4d.assets.usd.materials import GRAY, Look, Looks, bound_material
from helix4d.assets.usd.skinning import Skin
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int32Array, Int64Array

Warn = Callable[[str], None]


@dataclass(frozen=True, eq=False)
class _Cut:
    """Triangles and points of a mesh, and its authored normals; if None, they are computed for `interpolation`."""

    triangles: Triangles
    points: Vt.Vec3fArray
    normals: Vt.Vec3fArray | None
    interpolation: str

    @property
    def is_split(self) -> bool:
        """Whether the corners of triangles are separate vertices, as normals per face or per corner require."""
        return self.interpolation not in (UsdGeom.Tokens.vertex, UsdGeom.Tokens.varying)


class Shape:
    """A mesh or geometric primitive.

    Args:
        prim: the prim.
        skin: skin that deforms the prim, or None.
        warn: receives a message for every unsupported feature.
    """

    def __init__(self, prim: Usd.Prim, skin: Skin | None, warn: Warn) -> None:
        self.prim, self.skin, self._warn = prim, skin, warn
        self._is_mesh = prim.IsA(UsdGeom.Mesh)
        self._gprim = UsdGeom.Gprim(prim)
        self._mesh = UsdGeom.Mesh(prim)
        self._subsets = UsdGeom.Subset.GetAllGeomSubsets(self._gprim) if self._is_mesh else []
        self._subsets = [subset for subset in self._subsets if subset.GetFamilyNameAttr().Get() == "materialBind"]
        self._slots: list[int] = []
        self._looks: Looks | None = None
        self._local: Local | None = None
        self._surface: Surface | None = None
        self._triangles: Triangles | None = None
        self._arrays: tuple[Int64Array, ...] = ()
        self._still = not any(attribute.ValueMightBeTimeVarying() for attribute in self.attributes())
        self._fixed = not any(attribute.ValueMightBeTimeVarying() for attribute in self._surface_attributes())

    def attributes(self) -> list[Usd.Attribute]:
        """Return the attributes that may animate the shape, apart from transforms and visibility."""
        skin = self.skin.attributes() if self.skin else []
        if self._is_mesh:
            return [self._mesh.GetPointsAttr(), *self._normals_attributes(), *self._topology_attributes(), *skin]
        names = ("size", "radius", "height", "width", "length", "radiusTop", "radiusBottom")
        found = [self.prim.GetAttribute(name) for name in names]
        return [attribute for attribute in found if attribute] + skin

    def bind(self, looks: Looks) -> None:
        """Read the materials that the shape shows."""
        double_sided = bool(self._gprim.GetDoubleSidedAttr().Get())
        opacity = primvars.find(self.prim, "displayOpacity")
        found = None if opacity is None else primvars.values(opacity, Usd.TimeCode.EarliestTime(), 1)
        is_sheer = found is not None and bool((found < 1).any())
        prims = [self.prim, *(subset.GetPrim() for subset in self._subsets)]
        self._slots = [looks.slot(bound_material(prim), double_sided, is_sheer) for prim in prims]
        self._looks, self._local, self._surface = looks, None, None
        self._fixed = self._fixed and not any(primvars.varies(p) for p in self._used_primvars())

    def at(self, time: float) -> Local | None:
        """Return the shape at a time code; None if it has no points or faces.

        Raises:
            BrokenMeshError: if indices are out of range, counts do not add up, or the skin cannot be evaluated.
        """
        if self._local is not None and self._still and self._fixed:
            return self._local
        self._local = self._read_mesh(time) if self._is_mesh else self._read_gprim(time)
        return self._local

    def _read_gprim(self, time: float) -> Local:
        points, normals, faces = gprim(self.prim, time)
        if self._gprim.GetOrientationAttr().Get(time) == UsdGeom.Tokens.leftHanded:
            faces, normals = faces[:, [0, 2, 1]], -normals
        triangles = Triangles(faces, np.arange(faces.size).reshape(-1, 3), np.arange(len(faces)))
        surface = self._same(self._surface_of(triangles, faces, len(points), time))
        step = float(np.spacing(np.float32(np.abs(points).max())))
        mirrored = False
        unposed = points[faces]
        if self.skin is not None and self.skin.follows_joints:
            moved = Vt.Vec3fArray.FromNumpy(points.astype(np.float32))
            turned = Vt.Vec3fArray.FromNumpy(normals.astype(np.float32))
            mirrored = self._deform(moved, turned, np.arange(len(points)), time)
            points, normals = np.array(moved, np.float64), np.array(turned, np.float64)
        return Local(points, unit(normals), surface, unposed, step, mirrored)

    def _read_mesh(self, time: float) -> Local | None:
        cut = self._cut(time)
        if cut is None:
            return None
        triangles, points = cut.triangles, Vt.Vec3fArray(cut.points)
        rest = np.array(points, np.float64).reshape(-1, 3)
        normals, owners = None, None
        if cut.normals is not None:
            owners = _owners(cut, triangles, len(points))
            normals = cut.normals
        mirrored = self._deform(points, normals, owners, time)
        positions = np.array(points, np.float64).reshape(-1, 3)
        if normals is not None:
            directions = unit(np.array(normals, np.float64).reshape(-1, 3))
        elif cut.is_split:
            directions = unit(sums(_areas(positions, triangles), triangles.polygons))
        else:
            around = np.repeat(_areas(positions, triangles), 3, axis=0)
            directions = unit(sums(around, triangles.points.reshape(-1), len(positions)))
        if cut.is_split:
            spread = primvars.spread(directions, cut.interpolation, triangles)
            directions = np.zeros((0, 3)) if spread is None else spread.reshape(-1, 3)
            faces = np.arange(triangles.points.size).reshape(-1, 3)
            positions = positions[triangles.points.reshape(-1)]
        else:
            faces = triangles.points
        surface = self._same(self._surface_of(triangles, faces, len(positions), time))
        step = float(np.spacing(np.float32(np.abs(rest[triangles.points]).max(initial=0.0))))
        return Local(positions, directions, surface, rest[triangles.points], step, mirrored)

    def _deform(
        self, points: Vt.Vec3fArray, normals: Vt.Vec3fArray | None, owners: Int64Array | None, time: float
    ) -> bool:
        if self.skin is None:
            return False
        try:
            return self.skin.deform(points, normals, owners, time)
        except ValueError as error:
            raise BrokenMeshError(str(error)) from error

    def _cut(self, time: float) -> _Cut | None:
        mesh, path = self._mesh, self.prim.GetPath()
        points, counts = mesh.GetPointsAttr().Get(time), mesh.GetFaceVertexCountsAttr().Get(time)
        indices = mesh.GetFaceVertexIndicesAttr().Get(time)
        if not points or not counts or not indices:
            missing = "points" if not points else "faces"
            self._warn(f"{path}: the mesh has no {missing}: not shown")
            return None
        sizes, corners = np.array(counts, np.int64), np.array(indices, np.int64)
        if sizes.min() < 0 or sizes.sum() != len(corners):
            raise BrokenMeshError(
                f"{path}: faceVertexCounts add up to {sizes.sum():,}, but there are {len(corners):,} faceVertexIndices"
            )
        if corners.min() < 0 or corners.max() >= len(points):
            wrong = corners.min() if corners.min() < 0 else corners.max()
            raise BrokenMeshError(f"{path}: faceVertexIndices contains {wrong:,}, but there are {len(points):,} points")
        return self._with_normals(self._cut_polygons(sizes, corners, points, time), points, time)

    def _cut_polygons(self, sizes: Int64Array, corners: Int64Array, points: Vt.Vec3fArray, time: float) -> Triangles:
        """Return the triangles of the mesh; the same object as before while its polygons do not change."""
        holes = np.array(self._mesh.GetHoleIndicesAttr().Get(time) or (), np.int64)
        arrays = sizes, corners, holes
        if self._triangles is not None and all(map(np.array_equal, arrays, self._arrays)):
            return self._triangles
        triangles = triangulate(sizes, corners, np.array(points, np.float64))
        if len(holes):
            kept = ~np.isin(triangles.polygons, holes)
            triangles = Triangles(triangles.points[kept], triangles.corners[kept], triangles.polygons[kept])
        if self._mesh.GetOrientationAttr().Get() == UsdGeom.Tokens.leftHanded:
            triangles = triangles.flipped()
        self._triangles, self._arrays = triangles, arrays
        return triangles

    def _with_normals(self, triangles: Triangles, points: Vt.Vec3fArray, time: float) -> _Cut:
        """Choose normals: authored ones, else flat normals for polygons and smooth ones for subdivision surfaces."""
        scheme = self._mesh.GetSubdivisionSchemeAttr().Get()
        is_smooth = scheme in (UsdGeom.Tokens.catmullClark, UsdGeom.Tokens.loop)
        if is_smooth:
            self._warn(f"{self.prim.GetPath()}: subdivision ({scheme}) is not supported: the control cage is shown")
        primvar = primvars.find(self.prim, "normals")
        attribute = self._mesh.GetNormalsAttr()
        values, interpolation = None, ""
        if primvar is not None:
            values, interpolation = primvar.ComputeFlattened(time), primvar.GetInterpolation()
        elif attribute.HasAuthoredValue():
            values, interpolation = attribute.Get(time), self._mesh.GetNormalsInterpolation()
        if values is not None and len(values):
            numbers = np.array(values, np.float64).reshape(len(values), -1)
            if numbers.shape[1] != 3 or primvars.spread(numbers, interpolation, triangles) is None:
                self._warn(f"{self.prim.GetPath()}: has too few normals, or values of another type: ignored")
            elif not np.isfinite(numbers).all() or not numbers.any(axis=1).all():
                self._warn(f"{self.prim.GetPath()}: normals have length 0, or are NaN or infinite: ignored")
            else:
                return _Cut(triangles, points, Vt.Vec3fArray.FromNumpy(numbers.astype(np.float32)), interpolation)
        return _Cut(triangles, points, None, UsdGeom.Tokens.vertex if is_smooth else UsdGeom.Tokens.uniform)

    def _surface_of(self, triangles: Triangles, faces: Int64Array, count: int, time: float) -> Surface:
        if self._surface is not None and self._fixed:
            return self._surface
        total = len(triangles.points)
        ids = np.zeros(total, np.int32)
        uv_sets = self._looks.uv_sets if self._looks else 0
        uvs = np.zeros((uv_sets, total, 3, 2), np.float32)
        colors = None
        if self._looks is not None:
            ids = self._material_ids(triangles, time)
            for slot in np.unique(ids):
                look, rows = self._looks.found[slot], ids == slot
                self._fill_uvs(uvs, look, rows, triangles, time)
                colors = self._filled_colors(colors, look, rows, triangles, time)
        return Surface(faces.astype(np.int32), uvs, colors, ids, count)

    def _material_ids(self, triangles: Triangles, time: float) -> Int32Array:
        ids = np.full(triangles.polygons.max(initial=-1) + 1, self._slots[0], np.int32)
        for subset, slot in zip(self._subsets, self._slots[1:], strict=True):
            chosen = np.array(subset.GetIndicesAttr().Get(time) or (), np.int64)
            ids[chosen[(chosen >= 0) & (chosen < len(ids))]] = slot
        return np.asarray(ids[triangles.polygons])

    def _fill_uvs(self, uvs: Float32Array, look: Look, rows: BoolArray, triangles: Triangles, time: float) -> None:
        for number, name in enumerate(look.uvs):
            found = self._corner_values(name, 2, triangles, time)
            if found is None:
                self._warn(f"{self.prim.GetPath()}: has no primvar {name!r}, which its material reads: UVs are 0")
                continue
            uvs[number, rows, :, 0] = found[rows, :, 0]
            uvs[number, rows, :, 1] = 1.0 - found[rows, :, 1]  # v points up in USD

    def _filled_colors(
        self, colors: Float32Array | None, look: Look, rows: BoolArray, triangles: Triangles, time: float
    ) -> Float32Array | None:
        if look.color is None and look.opacity is None:
            return colors
        if colors is None:
            colors = np.ones((len(rows), 3, 4), np.float32)
        if look.color is not None:
            found = self._corner_values(look.color, 3, triangles, time)
            colors[rows, :, :3] = GRAY if found is None else np.clip(found[rows], 0.0, 1.0)
        if look.opacity is not None:
            found = self._corner_values(look.opacity, 1, triangles, time)
            colors[rows, :, 3] = 1.0 if found is None else np.clip(found[rows, :, 0], 0.0, 1.0)
        return colors

    def _corner_values(self, name: str, width: int, triangles: Triangles, time: float) -> Float64Array | None:
        primvar = primvars.find(self.prim, name)
        values = None if primvar is None else primvars.values(primvar, time, width)
        if primvar is None or values is None:
            return None
        interpolation = primvar.GetInterpolation()
        if not self._is_mesh and interpolation != UsdGeom.Tokens.constant:
            self._warn(f"{primvar.GetAttr().GetPath()}: only constant values are supported here: the first is used")
            interpolation = UsdGeom.Tokens.constant
        spread = primvars.spread(values, interpolation, triangles)
        if spread is None or not np.isfinite(spread).all():
            self._warn(f"{primvar.GetAttr().GetPath()}: has too few values, or some are NaN or infinite: ignored")
            return None
        return spread

    def _same(self, surface: Surface) -> Surface:
        """Return the previous surface if the values are equal, so that frames share one object."""
        if self._surface is None or not self._surface.equals(surface):
            self._surface = surface
        return self._surface

    def _topology_attributes(self) -> list[Usd.Attribute]:
        mesh = self._mesh
        return [mesh.GetFaceVertexCountsAttr(), mesh.GetFaceVertexIndicesAttr(), mesh.GetHoleIndicesAttr()]

    def _normals_attributes(self) -> list[Usd.Attribute]:
        primvar = primvars.find(self.prim, "normals")
        return [self._mesh.GetNormalsAttr(), *([primvar.GetAttr()] if primvar else [])]

    def _surface_attributes(self) -> list[Usd.Attribute]:
        if not self._is_mesh:
            return []
        return [*self._topology_attributes(), *(subset.GetIndicesAttr() for subset in self._subsets)]

    def _used_primvars(self) -> list[UsdGeom.Primvar | None]:
        looks = [self._looks.found[slot] for slot in self._slots] if self._looks else []
        names = [name for look in looks for name in (*look.uvs, look.color, look.opacity) if name]
        return [primvars.find(self.prim, name) for name in names]


def _owners(cut: _Cut, triangles: Triangles, points: int) -> Int64Array | None:
    """Return the (N,) index of the point that each normal belongs to; for normals per face, its first point."""
    if not cut.is_split:
        return np.arange(points)
    owners = np.zeros(len(cut.normals or ()), np.int64)
    if cut.interpolation == UsdGeom.Tokens.uniform:
        owners[triangles.polygons] = triangles.points[:, 0]
    elif cut.interpolation == UsdGeom.Tokens.faceVarying:
        owners[triangles.corners.reshape(-1)] = triangles.points.reshape(-1)
    return owners


def _areas(positions: Float64Array, triangles: Triangles) -> Float64Array:
    """Return the (F, 3) normals of triangles, with twice the area as their length."""
    corners = positions[triangles.points]
    return np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
