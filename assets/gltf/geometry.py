"""Decodes a mesh primitive to arrays in its own space: positions, faces, normals, UVs, colors, skin and morph targets.

Strips and fans become triangles, and Draco is decoded. The corners of a primitive without normals are separated, so
that it can have flat normals (glTF 2.0 section 3.7.2.1).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from helix4d.assets.gltf.accessors import Accessors, to_floats
from helix4d.assets.gltf.compression import DracoMesh, decode_draco
from helix4d.assets.gltf.parse.model import Primitive
from helix4d.assets.gltf.parse.values import alternatives
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int64Array, NumberArray

T = TypeVar("T", bound=np.generic)

UV_SETS = 8


@dataclass(frozen=True, eq=False)
class Geometry:
    """V vertices and F triangles of a primitive before posing.

    Attributes:
        positions: (V, 3) float64.
        normals: (V, 3) float64, or None for flat normals.
        faces: (F, 3) int64.
        uvs: (V, 2) float32 by the number of the UV set.
        colors: (V, 4) float32 linear RGBA, or None.
        joints, weights: (V, K) int64 and float64 (rows sum to 1), or None.
        morph_positions: (M, V, 3) float64 differences, or None if no target moves positions.
        morph_normals: (M, V, 3) float64 differences, or None.
        morph_colors: (M, V, 4) float64 differences, or None.
        material: index in the file, or None.
        position_step: largest rounding error of the stored positions, in the primitive's own units.
    """

    positions: Float64Array
    normals: Float64Array | None
    faces: Int64Array
    uvs: Mapping[int, Float32Array]
    colors: Float32Array | None
    joints: Int64Array | None
    weights: Float64Array | None
    morph_positions: Float64Array | None
    morph_normals: Float64Array | None
    morph_colors: Float64Array | None
    material: int | None
    position_step: float

    @property
    def nbytes(self) -> int:
        """Size of all arrays except those of morph targets, whose zeros may take no memory."""
        arrays = (self.positions, self.normals, self.faces, self.colors, self.joints, self.weights)
        return sum(array.nbytes for array in (*arrays, *self.uvs.values()) if array is not None)


def read_geometry(primitive: Primitive, accessors: Accessors) -> Geometry:
    """Decode one primitive.

    Raises:
        AssetError: invalid_accessor for inconsistent attributes, non_finite_geometry for NaN or infinity.
    """
    return _Reader(primitive, accessors).read()


def triangulate(indices: Int64Array, mode: int) -> Int64Array:
    """Return the (F, 3) corners of triangles (mode 4), a strip (5) or a fan (6); leftover indices are dropped."""
    if mode == 4:
        return indices[: len(indices) // 3 * 3].reshape(-1, 3)
    count = max(len(indices) - 2, 0)
    n = np.arange(count)
    if mode == 5:
        corners = np.stack([n, n + 1 + n % 2, n + 2 - n % 2], axis=1)
    else:
        corners = np.stack([n + 1, n + 2, np.zeros_like(n)], axis=1)
    return indices[corners.reshape(-1)].reshape(-1, 3)


class _Reader:
    def __init__(self, primitive: Primitive, accessors: Accessors) -> None:
        self.primitive = primitive
        self.accessors = accessors
        self.document = accessors.document
        self.draco = self._decode_draco()

    def read(self) -> Geometry:
        raw = self._raw("POSITION", (3,))
        positions = self._floats("POSITION", (3,))
        count = len(positions)
        faces = self._faces(count)
        used = np.zeros(count, bool)
        used[faces] = True
        positions = self._finite("POSITION", positions, used)
        normals = self._optional("NORMAL", (3,), count)
        joints, weights = self._skin(count, used)
        morph_positions = self._morph("POSITION", count)
        if morph_positions is not None:
            morph_positions = self._finite("morph POSITION", morph_positions, used)
        morph_normals = self._morph("NORMAL", count) if normals is not None else None
        if normals is not None and not (_all_finite(normals, used) and _all_finite(morph_normals, used)):
            self.document.warn(f"{self.primitive.where}: NORMAL contains NaN or infinity: replaced by flat normals")
            normals = morph_normals = None
        if normals is not None:
            normals = self._without_zeros(normals, positions, faces, used)
        colors = self._colors(count)
        self._warn_of_lost_targets(colors is not None)
        step = float(np.spacing(np.abs(raw[faces]).max(initial=0))) if raw.dtype == np.float32 else 0.0
        geometry = Geometry(
            positions=positions,
            normals=normals,
            faces=faces,
            uvs=self._uvs(count),
            colors=colors,
            joints=joints,
            weights=weights,
            morph_positions=morph_positions,
            morph_normals=morph_normals,
            morph_colors=None if colors is None else self._morph_colors(count),
            material=self.primitive.material,
            position_step=step,
        )
        return geometry if normals is not None else _split_corners(geometry)

    def _decode_draco(self) -> DracoMesh | None:
        draco = self.primitive.draco
        if draco is None:
            return None
        try:
            return decode_draco(self.accessors.view(draco.view).tobytes())
        except ValueError as error:
            raise self._fail(str(error)) from error

    def _raw(self, name: str, components: tuple[int, ...]) -> NumberArray:
        draco = self.primitive.draco
        accessor = self.primitive.attributes[name]
        if self.draco is not None and draco is not None and name in draco.attributes:
            array = self.draco.attributes.get(draco.attributes[name])
            if array is None:
                raise self._fail(f"Draco data has no attribute {draco.attributes[name]} for {name}")
            array = self._in_type(name, array, self.document.accessors[accessor].dtype)
        else:
            array = self.accessors.raw(accessor)
        if array.shape[1] not in components:
            raise self._fail(f"{name} must have {alternatives(components)} components, found {array.shape[1]}")
        return array

    def _in_type(self, name: str, array: NumberArray, dtype: np.dtype) -> NumberArray:
        """Convert decoded Draco values to their accessor's component type; the decoder returns wider types."""
        if dtype.kind == "f":
            return array
        limits = np.iinfo(dtype)
        if not ((array >= limits.min) & (array <= limits.max)).all():  # true for NaN as well
            raise self._fail(f"Draco values of {name} do not fit the component type of its accessor, {dtype}")
        return np.asarray(np.rint(array)).astype(dtype)

    def _floats(self, name: str, components: tuple[int, ...]) -> Float64Array:
        normalized = self.document.accessors[self.primitive.attributes[name]].normalized
        return to_floats(self._raw(name, components), normalized)

    def _optional(self, name: str, components: tuple[int, ...], count: int) -> Float64Array | None:
        return self._required(name, components, count) if name in self.primitive.attributes else None

    def _required(self, name: str, components: tuple[int, ...], count: int) -> Float64Array:
        array = self._floats(name, components)
        if len(array) != count:
            raise self._wrong_count(name, len(array), count)
        return array

    def _faces(self, count: int) -> Int64Array:
        if self.draco is not None:
            faces = self.draco.faces
        elif self.primitive.indices is None:
            faces = triangulate(np.arange(count), self.primitive.mode)
        else:
            accessor = self.document.accessors[self.primitive.indices]
            if accessor.kind != "SCALAR" or accessor.dtype.kind != "u":
                raise self._fail(
                    f"indices must be SCALAR of unsigned integers, found {accessor.kind} of {accessor.dtype}"
                )
            faces = triangulate(self.accessors.raw(self.primitive.indices)[:, 0].astype(np.int64), self.primitive.mode)
        if faces.size and (faces.max() >= count or faces.min() < 0):
            index = faces.max() if faces.max() >= count else faces.min()
            raise self._fail(f"index {index:,} is out of range (there are {count:,} vertices)")
        return faces

    def _without_zeros(
        self, normals: Float64Array, positions: Float64Array, faces: Int64Array, used: BoolArray
    ) -> Float64Array:
        """Replace normals of length 0 by the area-weighted normals of their triangles."""
        zero = used & ~normals.any(axis=1)
        if not zero.any():
            return normals
        touched = faces[zero[faces].any(axis=1)]
        corners = positions[touched]
        flat = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
        sums = np.zeros_like(normals)
        np.add.at(sums, touched, flat[:, None])
        length = np.linalg.norm(sums, axis=1, keepdims=True)
        replaced = zero & (length[:, 0] > 0)  # the others belong to triangles without area, which are never visible
        if replaced.any():
            problem = f"{replaced.sum():,} of {len(normals):,} normals have length 0"
            self.document.warn(f"{self.primitive.where}: {problem}: replaced by triangle normals")
        return np.where(replaced[:, None], sums / np.where(length > 0, length, 1.0), normals)

    def _skin(self, count: int, used: BoolArray) -> tuple[Int64Array | None, Float64Array | None]:
        sets = sorted(
            int(match[1]) for name in self.primitive.attributes if (match := re.fullmatch(r"JOINTS_(\d{1,2})", name))
        )
        joints, weights = [], []
        for number in sets:
            if f"WEIGHTS_{number}" not in self.primitive.attributes:
                raise self._fail(f"JOINTS_{number} has no matching WEIGHTS_{number}")
            raw = self._raw(f"JOINTS_{number}", (4,))
            if len(raw) != count:
                raise self._wrong_count(f"JOINTS_{number}", len(raw), count)
            if not np.isfinite(raw).all():
                raise self._fail(f"JOINTS_{number} contains NaN or infinity")
            joints.append(raw.astype(np.int64))
            weights.append(self._required(f"WEIGHTS_{number}", (4,), count))
        if not joints:
            return None, None
        slots, shares = np.concatenate(joints, axis=1), np.concatenate(weights, axis=1)
        shares = self._finite("WEIGHTS", shares, used)
        if slots.min() < 0:
            raise self._fail(f"joint indices must not be negative, found {slots.min()}")
        total = shares.sum(axis=1, keepdims=True)
        # Weights should sum to 1, but many exporters are slightly off; a vertex without any follows its first joint.
        without = ~(np.abs(total[:, 0]) > 0)
        shares = np.where(without[:, None], 0.0, shares / np.where(without[:, None], 1.0, total))
        shares[without, 0] = 1.0
        return np.where(shares == 0, 0, slots), shares

    def _morph(self, name: str, count: int) -> Float64Array | None:
        targets = self.primitive.targets
        if not any(name in target for target in targets):
            return None
        if len(targets) * count > self.document.limits.morph_values:
            limit = f"more than the limit of {self.document.limits.morph_values:,} values"
            message = f"has {len(targets):,} morph targets of {count:,} vertices, {limit}"
            raise self._fail(message, ReasonCode.OUT_OF_MEMORY)
        widths = (3, 4) if name == "COLOR_0" else (3,)
        deltas = np.zeros((len(targets), count, widths[-1]))
        for number, target in enumerate(targets):
            if name not in target:
                continue
            accessor = target[name]
            # Integer colors are normalized by definition, even if the flag is not set.
            normalized = self.document.accessors[accessor].normalized or name == "COLOR_0"
            array = to_floats(self.accessors.raw(accessor), normalized)
            if len(array) != count or array.shape[1] not in widths:
                shape = f"{array.shape[0]:,} × {array.shape[1]}"
                expected = f"{count:,} × {alternatives(widths)}"
                raise self._fail(f"targets[{number}].{name} must be {expected} numbers, found {shape}")
            deltas[number, :, : array.shape[1]] = array
        if name == "COLOR_0" and not np.isfinite(deltas).all():
            self.document.warn(f"{self.primitive.where}: COLOR_0 of morph targets contains NaN or infinity: ignored")
            return None
        return deltas

    def _morph_colors(self, count: int) -> Float64Array | None:
        deltas = self._morph("COLOR_0", count)
        return deltas if deltas is not None and deltas.any() else None

    def _warn_of_lost_targets(self, has_colors: bool) -> None:
        """Warn of unsupported morph target attributes, except for application-specific ones (with an underscore)."""
        known = {"POSITION", "NORMAL", "TANGENT"} | ({"COLOR_0"} if has_colors else set())
        lost = sorted({name for target in self.primitive.targets for name in target if name[:1] != "_"} - known)
        if lost:
            names = ", ".join(name[:80] for name in lost[:3]) + (" and more" if len(lost) > 3 else "")
            self.document.warn(f"{self.primitive.where}: {names} of morph targets: ignored")

    def _uvs(self, count: int) -> dict[int, Float32Array]:
        uvs = {}
        for number in range(UV_SETS):
            array = self._optional(f"TEXCOORD_{number}", (2,), count)
            if array is None:
                continue
            uvs[number] = _repaired(array)
            if not np.isfinite(array).all():
                self.document.warn(f"{self.primitive.where}: TEXCOORD_{number} contains NaN or infinity: replaced by 0")
        return uvs

    def _colors(self, count: int) -> Float32Array | None:
        name = "COLOR_0"
        if name not in self.primitive.attributes:
            return None
        raw = self._raw(name, (3, 4))
        if len(raw) != count:
            raise self._wrong_count(name, len(raw), count)
        # Integer colors are normalized by definition, even if the flag is not set.
        colors = np.ones((count, 4), np.float32)
        colors[:, : raw.shape[1]] = np.clip(_repaired(to_floats(raw, normalized=True)), 0.0, 1.0)
        return colors

    def _finite(self, name: str, array: Float64Array, used: BoolArray) -> Float64Array:
        """Return the (..., V, C) array with 0 for vertices that are not finite and that no triangle uses."""
        broken: BoolArray = np.asarray(~np.isfinite(array).all(axis=-1))
        if not broken.any():
            return array
        if (broken & used).any():
            first = int(np.argwhere(broken & used)[0, -1])
            raise self._fail(f"{name} of vertex {first:,} is NaN or infinite", ReasonCode.NON_FINITE_GEOMETRY)
        return np.where(broken[..., None], 0.0, array)

    def _wrong_count(self, name: str, count: int, expected: int) -> AssetError:
        return self._fail(f"{name} must have as many elements as POSITION ({expected:,}), found {count:,}")

    def _fail(self, message: str, code: ReasonCode = ReasonCode.INVALID_ACCESSOR) -> AssetError:
        return self.document.fail(code, f"{self.primitive.where}: {message}")


def _split_corners(geometry: Geometry) -> Geometry:
    corners = geometry.faces.reshape(-1)

    def pick(array: NDArray[T] | None, axis: int = 0) -> NDArray[T] | None:
        return None if array is None else np.take(array, corners, axis=axis)

    return Geometry(
        positions=geometry.positions[corners],
        normals=None,
        faces=np.arange(len(corners)).reshape(-1, 3),
        uvs={number: array[corners] for number, array in geometry.uvs.items()},
        colors=pick(geometry.colors),
        joints=pick(geometry.joints),
        weights=pick(geometry.weights),
        morph_positions=pick(geometry.morph_positions, axis=1),
        morph_normals=None,
        morph_colors=pick(geometry.morph_colors, axis=1),
        material=geometry.material,
        position_step=geometry.position_step,
    )


def _repaired(array: Float64Array) -> Float32Array:
    with np.errstate(over="ignore"):
        narrow = array.astype(np.float32)
    return np.where(np.isfinite(narrow), narrow, np.float32(0))


def _all_finite(array: Float64Array | None, used: BoolArray) -> bool:
    """Return whether the values (..., V, C) of all vertices in use are finite."""
    return array is None or bool(np.isfinite(array).all() or np.isfinite(array[..., used, :]).all())
