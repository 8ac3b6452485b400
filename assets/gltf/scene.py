"""Poses the default scene: node hierarchy, skins and morph targets determine vertices in world space.

All arithmetic is in float64. A skinned mesh ignores the transform of its node (glTF 2.0 section 3.7.3.3).
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.assets.gltf.accessors import Accessors
from helix4d.assets.gltf.animation import Motion, Track, nearly_unit
from helix4d.assets.gltf.geometry import Geometry, read_geometry
from helix4d.assets.gltf.parse.model import Node, Property
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import BoolArray, Float32Array, Float64Array, Int64Array

_IDENTITY = np.eye(4)


@dataclass(frozen=True, eq=False)
class Part:
    """A primitive placed in the scene by a node.

    Attributes:
        node: index of the node.
        mesh: index of the mesh.
        geometry: decoded primitive.
        local: (4, 4) transform of an instance relative to its node; the identity for ordinary nodes.
        joints: (J,) nodes of the skin, or None.
        inverse_bind: (J, 4, 4) inverse bind matrices, or None.
        weighted: (J,) bool mask of the joints that some vertex follows, or None.
    """

    node: int
    mesh: int
    geometry: Geometry
    local: Float64Array
    joints: Int64Array | None
    inverse_bind: Float64Array | None
    weighted: BoolArray | None


@dataclass(frozen=True, eq=False)
class PosedPart:
    """A posed part.

    Attributes:
        positions: (V, 3) float64 in glTF's axes.
        normals: (V, 3) float64 normals of any length, or None if they are not requested or flat.
        colors: (V, 4) float32 RGBA, or None if they do not change.
        mirrored: whether the part is turned inside out.
        visible: whether the part is shown.
    """

    positions: Float64Array
    normals: Float64Array | None
    colors: Float32Array | None
    mirrored: bool
    visible: bool


@dataclass(frozen=True, eq=False)
class State:
    """Animated properties of the scene at one time.

    Attributes:
        globals: (N, 4, 4) transforms from node to world space.
        weights: morph weights by node.
        visible: (N,) bool mask; a node is visible only if all its ancestors are.
    """

    globals: Float64Array
    weights: dict[int, Float64Array]
    visible: BoolArray


@dataclass(frozen=True, eq=False)
class Placements:
    """Transforms of P parts at one time, computed together because a call per part costs more than its arithmetic.

    Attributes:
        matrices: (P, 4, 4) float64 transforms from a part to world space; not used by skinned parts.
        cofactors: (P, 3, 3) float64 transforms of their normals.
        mirrored: (P,) bool, whether a transform turns a part inside out.
    """

    matrices: Float64Array
    cofactors: Float64Array
    mirrored: BoolArray


class Scene:
    """Default scene of a document: its visible primitives, and how to pose them."""

    def __init__(self, accessors: Accessors) -> None:
        self.accessors = accessors
        self.document = accessors.document
        nodes = self.document.nodes
        self._translations = np.array([node.translation for node in nodes], np.float64).reshape(-1, 3)
        self._rotations = np.array([node.rotation for node in nodes], np.float64).reshape(-1, 4)
        self._scales = np.array([node.scale for node in nodes], np.float64).reshape(-1, 3)
        self._matrices = {n: np.array(node.matrix).reshape(4, 4) for n, node in enumerate(nodes) if node.matrix}
        self._levels = _levels(self.document.order, self.document.parents)
        self._parents = np.array(self.document.parents, np.int64)
        self.shown = self._reachable()
        self.parts = self._place()
        self._placed = {part.node for part in self.parts}

    def moves(self, parts: Iterable[Part], tracks: Iterable[Track]) -> Callable[[Track], bool]:
        """Return a predicate: whether a track moves, morphs, hides or colors a part that is visible at some time.

        A skinned part follows the joints of its vertices' weights, but not its node.

        Args:
            parts: parts to consider.
            tracks: tracks of the animation, which may show and hide nodes.
        """
        visible = self._ever_visible(tracks)
        parts = [part for part in parts if visible[part.node]]
        own = {part.node for part in parts}
        meshes = {part.mesh for part in parts}
        placing: set[int] = set()
        for part in parts:
            if part.joints is not None and part.weighted is not None:
                placing.update(part.joints[part.weighted].tolist())
            else:
                placing.add(part.node)
        placing, showing = self._with_ancestors(placing), self._with_ancestors(own)
        groups: dict[Property, Collection[int | None]] = {
            Property.WEIGHTS: own,
            Property.MESH_WEIGHTS: meshes,
            Property.VISIBLE: showing,
            Property.MATERIAL: {part.geometry.material for part in parts},
        }
        return lambda track: track.target in groups.get(track.property, placing)

    def _ever_visible(self, tracks: Iterable[Track]) -> BoolArray:
        """Return an (N,) mask of the nodes that may be visible at some time.

        Each ancestor is visible at some time, but perhaps not all at the same time.
        """
        visible = np.array([node.visible for node in self.document.nodes], bool)
        for track in tracks:
            if track.property is Property.VISIBLE:
                visible[track.target] = track.values.any()
        for level in self._levels[1:]:
            visible[level] &= visible[self._parents[level]]
        return visible

    def _with_ancestors(self, starts: Iterable[int]) -> set[int]:
        nodes: set[int] = set()
        for node in starts:
            while node != -1 and node not in nodes:
                nodes.add(node)
                node = self.document.parents[node]
        return nodes

    def state(self, motion: Motion | None, time: float) -> State:
        """Return node transforms, morph weights and visibility at a time in seconds; the rest pose without a motion."""
        translations, rotations, scales = self._translations.copy(), self._rotations.copy(), self._scales.copy()
        matrices = dict(self._matrices)
        weights: dict[int, Float64Array] = {}
        mesh_weights: dict[int, Float64Array] = {}
        visible = np.array([node.visible for node in self.document.nodes], bool)
        tracks: tuple[Track, ...] = motion.tracks if motion else ()
        for track in tracks:
            value = track.at(time)
            node = track.target
            if track.property is Property.WEIGHTS:
                if node in self._placed:
                    own = weights[node] if node in weights else self._rest_weights(node, mesh_weights)
                    weights[node] = _with_element(own, track.element, value)
            elif track.property is Property.MESH_WEIGHTS:
                own = np.array(self.document.meshes[node].weights)
                mesh_weights[node] = _with_element(mesh_weights.get(node, own), track.element, value)
            elif track.property is Property.VISIBLE:
                visible[node] = bool(value[0])
            elif track.property is not Property.MATERIAL:
                if node in matrices:  # violates the specification, but occurs: decompose the matrix and animate that
                    translations[node], rotations[node], scales[node] = _decompose(matrices.pop(node))
                target = {Property.TRANSLATION: translations, Property.ROTATION: rotations, Property.SCALE: scales}
                target[track.property][node] = value
        world = compose(translations, rotations, scales)
        for node, matrix in matrices.items():
            world[node] = matrix
        for level in self._levels[1:]:
            world[level] = world[self._parents[level]] @ world[level]
            visible[level] &= visible[self._parents[level]]
        for part in self.parts:
            if part.node not in weights:
                weights[part.node] = self._rest_weights(part.node, mesh_weights)
        return State(world, weights, visible)

    def place(self, parts: Sequence[Part], state: State) -> Placements:
        """Return the transforms of parts in a given state."""
        nodes = [part.node for part in parts]
        matrices = state.globals[nodes] @ np.stack([part.local for part in parts])
        linear = matrices[:, :3, :3]
        return Placements(matrices, cofactor(linear), determinants(linear) < 0)

    def pose_all(self, parts: Sequence[Part], state: State, placed: Placements, with_normals: bool) -> list[PosedPart]:
        """Return the vertices of parts in a given state.

        Args:
            parts: the parts.
            state: animated properties of the scene.
            placed: transforms of the parts, from `place`.
            with_normals: whether to compute normals and morphed colors.
        """
        rows = zip(parts, placed.matrices, placed.cofactors, placed.mirrored.tolist(), strict=True)
        return [self._pose(part, state, matrix, turn, flip, with_normals) for part, matrix, turn, flip in rows]

    def _pose(
        self,
        part: Part,
        state: State,
        matrix: Float64Array,
        turn: Float64Array,
        mirrored: bool,
        with_normals: bool,
    ) -> PosedPart:
        geometry = part.geometry
        weights = state.weights[part.node]
        positions = morph_values(geometry.positions, geometry.morph_positions, weights)
        normals = None
        if with_normals and geometry.normals is not None:
            normals = morph_values(geometry.normals, geometry.morph_normals, weights)
        if (
            part.joints is not None
            and part.inverse_bind is not None
            and geometry.joints is not None
            and geometry.weights is not None
        ):
            matrices = state.globals[part.joints] @ part.inverse_bind
            blended = blend_joints(matrices, geometry.joints, geometry.weights)
            posed, turned, mirrored = skin_vertices(blended, positions, normals)
        else:
            posed = positions @ matrix[:3, :3].T + matrix[:3, 3]
            turned = None
            if normals is not None:
                turned = normals @ turn.T * (-1.0 if mirrored else 1.0)
        colors = None
        if with_normals and geometry.colors is not None and geometry.morph_colors is not None:
            morphed = morph_values(geometry.colors.astype(np.float64), geometry.morph_colors, weights)
            colors = np.clip(morphed, 0.0, 1.0).astype(np.float32)
        return PosedPart(posed, turned, colors, mirrored, bool(state.visible[part.node]))

    def _rest_weights(self, number: int, mesh_weights: dict[int, Float64Array]) -> Float64Array:
        """Return the (M,) morph weights of a node whose own weights are not animated."""
        node = self.document.nodes[number]
        if node.weights is not None or node.mesh is None:
            return np.array(node.weights or ())
        return mesh_weights.get(node.mesh, np.array(self.document.meshes[node.mesh].weights))

    def _reachable(self) -> list[int]:
        nodes = list(self.document.roots)
        for node in nodes:  # grows during iteration
            nodes.extend(self.document.nodes[node].children)
        return nodes

    def _place(self) -> tuple[Part, ...]:
        geometries: dict[tuple[int, int], Geometry] = {}
        parts: list[Part] = []
        limits = self.document.limits
        triangles = vertices = 0
        for number in self.shown:
            node = self.document.nodes[number]
            if node.mesh is None:
                continue
            mesh = self.document.meshes[node.mesh]
            if node.weights is not None and len(node.weights) != mesh.targets:
                raise self._invalid(
                    f"nodes[{number}]: weights must contain one number per morph target ({mesh.targets}), "
                    f"found {len(node.weights)}"
                )
            placements = self._instances(number, node)
            for slot, primitive in enumerate(mesh.primitives):
                key = node.mesh, slot
                if key not in geometries:
                    geometries[key] = read_geometry(primitive, self.accessors)
                geometry = geometries[key]
                skin = self._skin_of(number, node, geometry)
                triangles += len(geometry.faces) * len(placements)
                vertices += len(geometry.positions) * len(placements)
                for count, limit, unit in (
                    (len(parts) + len(placements), limits.primitives, "primitives"),
                    (triangles, limits.triangles, "triangles"),
                    (vertices, limits.vertices, "vertices"),
                ):
                    if count > limit:
                        message = f"the scene has at least {count:,} {unit}, more than the limit of {limit:,}"
                        raise self.document.fail(ReasonCode.OUT_OF_MEMORY, message)
                parts += [Part(number, node.mesh, geometry, local, *skin) for local in placements]
        return tuple(parts)

    def _instances(self, number: int, node: Node) -> list[Float64Array]:
        if not node.instancing:
            return [_IDENTITY]
        rows: dict[str, Float64Array] = {}
        for name, width in (("TRANSLATION", 3), ("ROTATION", 4), ("SCALE", 3)):
            if name in node.instancing:
                rows[name] = self.accessors.floats(node.instancing[name])
                if rows[name].shape[1] != width or not np.isfinite(rows[name]).all():
                    raise self._invalid(f"nodes[{number}]: {name} of instances must be {width} finite numbers each")
        counts = {len(array) for array in rows.values()}
        if len(counts) > 1:
            found = " and ".join(f"{count:,}" for count in sorted(counts))
            raise self._invalid(f"nodes[{number}]: instancing attributes must be equally long, found {found} elements")
        count = counts.pop() if counts else 1
        if count > (limit := self.document.limits.primitives):
            message = f"nodes[{number}]: has {count:,} instances, more than the limit of {limit:,}"
            raise self.document.fail(ReasonCode.OUT_OF_MEMORY, message)
        translations = rows.get("TRANSLATION", np.zeros((count, 3)))
        rotations = rows.get("ROTATION", np.tile([0.0, 0.0, 0.0, 1.0], (count, 1)))
        return list(compose(translations, rotations, rows.get("SCALE", np.ones((count, 3)))))

    def _skin_of(
        self, number: int, node: Node, geometry: Geometry
    ) -> tuple[Int64Array, Float64Array, BoolArray] | tuple[None, None, None]:
        """Return the joints of a part, their inverse bind matrices, and a mask of those that some vertex follows."""
        if node.skin is None or geometry.joints is None or geometry.weights is None:
            if node.skin is not None:
                self.document.warn(f"nodes[{number}]: has a skin, but its mesh has no JOINTS_0: the skin is ignored")
            return None, None, None
        skin = self.document.skins[node.skin]
        if geometry.joints.max(initial=0) >= len(skin.joints):
            raise self._invalid(
                f"nodes[{number}]: joint {geometry.joints.max():,} of a vertex is out of range "
                f"(the skin has {len(skin.joints):,} joints)"
            )
        weighted = np.zeros(len(skin.joints), bool)
        weighted[geometry.joints[geometry.weights != 0]] = True
        return np.array(skin.joints), self.inverse_binds(node.skin), weighted

    def inverse_binds(self, number: int) -> Float64Array:
        """Return the (J, 4, 4) inverse bind matrices of a skin.

        Raises:
            AssetError: invalid_accessor, non_finite_geometry.
        """
        skin = self.document.skins[number]
        if skin.inverse_bind is None:
            return np.tile(_IDENTITY, (len(skin.joints), 1, 1))
        accessor = self.document.accessors[skin.inverse_bind]
        if accessor.kind != "MAT4" or accessor.count < len(skin.joints):
            raise self._invalid(
                f"skins[{number}]: inverseBindMatrices must contain {len(skin.joints):,} × MAT4, "
                f"found {accessor.count:,} × {accessor.kind}"
            )
        matrices = self.accessors.floats(skin.inverse_bind)[: len(skin.joints)].reshape(-1, 4, 4)
        if not np.isfinite(matrices).all():
            raise self.document.fail(
                ReasonCode.NON_FINITE_GEOMETRY, f"skins[{number}]: inverseBindMatrices contain NaN or infinity"
            )
        return matrices.transpose(0, 2, 1)

    def _invalid(self, message: str) -> AssetError:
        return self.document.fail(ReasonCode.INVALID_ACCESSOR, message)


def compose(translations: Float64Array, rotations: Float64Array, scales: Float64Array) -> Float64Array:
    """Return (N, 4, 4) matrices translation · rotation · scale; rotations are (N, 4) quaternions (x, y, z, w)."""
    x, y, z, w = nearly_unit(rotations).T
    turn = np.empty((len(rotations), 3, 3))
    turn[:, 0] = np.stack([1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)], axis=1)
    turn[:, 1] = np.stack([2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)], axis=1)
    turn[:, 2] = np.stack([2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)], axis=1)
    matrices = np.zeros((len(rotations), 4, 4))
    matrices[:, :3, :3] = turn * scales[:, None, :]
    matrices[:, :3, 3] = translations
    matrices[:, 3, 3] = 1.0
    return matrices


def cofactor(matrices: Float64Array) -> Float64Array:
    """Return the (N, 3, 3) cofactor matrices: det · inverse transpose, but finite for singular matrices, too."""
    # One array per matrix entry, because np.cross of rows of three takes several times as long.
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = np.ascontiguousarray(matrices.transpose(1, 2, 0))
    rows = [
        [by * cz - bz * cy, cy * az - cz * ay, ay * bz - az * by],
        [bz * cx - bx * cz, cz * ax - cx * az, az * bx - ax * bz],
        [bx * cy - by * cx, cx * ay - cy * ax, ax * by - ay * bx],
    ]
    return np.ascontiguousarray(np.array(rows).transpose(2, 0, 1))


def determinants(matrices: Float64Array) -> Float64Array:
    """Return the (N,) determinants of (N, 3, 3) matrices, with the signs that LAPACK computes.

    LAPACK, which factorizes one matrix at a time, is used only where rounding may decide the sign.
    """
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = entries = np.ascontiguousarray(matrices.transpose(1, 2, 0))
    products = ax * (by * cz - bz * cy), bx * (cy * az - cz * ay), cx * (ay * bz - az * by)
    found = np.asarray(products[0] + products[1] + products[2])
    largest = np.abs(entries).max(axis=(0, 1))
    unsure = ~(np.abs(found) > 1e-12 * largest**3)
    found[unsure] = np.linalg.det(matrices[unsure])
    return found


def blend_joints(matrices: Float64Array, joints: Int64Array, weights: Float64Array) -> Float64Array:
    """Return (V, 3, 4): for each vertex, the weighted sum of the matrices of its joints."""
    rows = np.ascontiguousarray(matrices[:, :3, :]).reshape(-1, 12)
    blended = np.zeros((len(joints), 12))
    for slot in range(joints.shape[1]):
        used = np.flatnonzero(weights[:, slot])
        chosen = rows.take(joints[used, slot], axis=0)
        chosen *= weights[used, slot, None]
        if len(used) == len(blended):
            blended += chosen
        else:
            blended[used] += chosen
    return blended.reshape(-1, 3, 4)


def skin_vertices(
    blended: Float64Array, positions: Float64Array, normals: Float64Array | None
) -> tuple[Float64Array, Float64Array | None, bool]:
    """Return the posed vertices and normals, and whether they are mirrored, given (V, 3, 4) matrices of vertices."""
    posed = np.einsum("vij,vj->vi", blended[:, :, :3], positions) + blended[:, :, 3]
    # A skinned mesh is placed by its joints: it is mirrored if they mirror the majority of its vertices.
    signs = np.sign(determinants(blended[:, :, :3]))
    mirrored = bool((signs < 0).sum() > (signs > 0).sum())
    if normals is None:
        return posed, None, mirrored
    turned = np.einsum("vij,vj->vi", cofactor(blended[:, :, :3]), normals)
    return posed, turned * np.where(signs < 0, -1.0, 1.0)[:, None], mirrored


def morph_values(base: Float64Array, deltas: Float64Array | None, weights: Float64Array) -> Float64Array:
    """Return (V, C) values with the weighted (M, V, C) differences of morph targets added."""
    if deltas is None:
        return base
    active = np.flatnonzero(weights[: len(deltas)])
    if len(active) == 0:
        return base
    # One target at a time: the last bits of a BLAS product depend on its number of threads.
    added: Float64Array = weights[active[0]] * deltas[active[0]]
    for target in active[1:]:
        added += weights[target] * deltas[target]
    return base + added


def _with_element(weights: Float64Array, element: int | None, value: Float64Array) -> Float64Array:
    """Return (M,) morph weights with one element replaced by a (1,) value, or all by an (M,) value."""
    if element is None:
        return value
    changed = weights.copy()
    changed[element] = value[0]
    return changed


def unit_rows(vectors: Float64Array) -> Float64Array:
    """Return (N, 3) vectors scaled to unit length; those of length 0, or that overflow, become (0, 1, 0)."""
    length = np.linalg.norm(vectors, axis=1, keepdims=True)
    with np.errstate(invalid="ignore", divide="ignore"):
        units = vectors / length
    return np.where(np.isfinite(units), units, [0.0, 1.0, 0.0])


def _levels(order: tuple[int, ...], parents: tuple[int, ...]) -> list[Int64Array]:
    depths = np.zeros(len(order), np.int64)
    for node in order:
        if parents[node] != -1:
            depths[node] = depths[parents[node]] + 1
    ranked = np.argsort(depths, kind="stable")
    return np.split(ranked, np.flatnonzero(np.diff(depths[ranked])) + 1) if len(order) else []


def _decompose(matrix: Float64Array) -> tuple[Float64Array, Float64Array, Float64Array]:
    linear = matrix[:3, :3]
    scale = np.linalg.norm(linear, axis=0)
    if np.linalg.det(linear) < 0:
        scale[0] = -scale[0]
    turn = linear / np.where(scale == 0, 1.0, scale)
    # For any rotation, the quaternion is the dominant eigenvector of this symmetric matrix (Bar-Itzhack).
    (xx, xy, xz), (yx, yy, yz), (zx, zy, zz) = turn
    symmetric = np.array(
        [
            [xx - yy - zz, yx + xy, zx + xz, zy - yz],
            [yx + xy, yy - xx - zz, zy + yz, xz - zx],
            [zx + xz, zy + yz, zz - xx - yy, yx - xy],
            [zy - yz, xz - zx, yx - xy, xx + yy + zz],
        ]
    )
    return matrix[:3, 3].copy(), np.linalg.eigh(symmetric)[1][:, -1], scale
