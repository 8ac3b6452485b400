"""Deforms the vertices of a mesh: blend shapes with in-betweens, then linear or dual-quaternion skinning.

ufbx evaluates the weights of shapes and the transforms of clusters. Its own skinning replaces the normals of the file.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.assembly import BrokenMeshError
from helix4d.assets.fbx.binding import indices, item, items, kept, matrix, rows
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class _Target:
    """Offsets of a blend shape: `keyframe` of the channel with index `channel`."""

    channel: int
    keyframe: int
    vertices: Int64Array
    offsets: Float64Array


class BlendShapes:
    """The blend shapes of a mesh.

    Args:
        mesh: the mesh.

    Raises:
        BrokenMeshError: if offsets and vertices differ in number, or vertices are missing.
    """

    def __init__(self, mesh: Any) -> None:
        self._targets: list[_Target] = []
        self.channels: list[int] = []
        for deformer in items(mesh.blend_deformers):
            for channel in items(deformer.channels):
                self.channels.append(channel.element_id)
                for number, key in enumerate(channel.keyframes):
                    shape = kept(key.shape)
                    vertices, offsets = indices(shape.offset_vertices), rows(shape.position_offsets, 3)
                    if len(vertices) != len(offsets):
                        raise BrokenMeshError(f"shape {shape.name!r}: has {len(vertices)} vertices, but "
                                              f"{len(offsets)} offsets")  # fmt: skip
                    inside = vertices < mesh.num_vertices
                    self._targets.append(_Target(channel.typed_id, number, vertices[inside], offsets[inside]))

    def __bool__(self) -> bool:
        return bool(self._targets)

    def moved(self, positions: Float64Array, posed: Any) -> Float64Array:
        """Return (V, 3) positions with the shapes at their weights in an evaluated scene added."""
        found = positions
        for target in self._targets:
            weight = item(posed.blend_channels, target.channel).keyframes[target.keyframe].effective_weight
            if weight:
                if found is positions:
                    found = positions.copy()
                np.add.at(found, target.vertices, weight * target.offsets)
        return found


@dataclass(frozen=True, eq=False)
class Placement:
    """How the vertices of a skinned mesh are placed in the world.

    Attributes:
        matrices: (V, 3, 3), for row vectors.
        shifts: (V, 3).
    """

    matrices: Float64Array
    shifts: Float64Array

    def positions(self, local: Float64Array) -> Float64Array:
        """Place (V, 3) positions."""
        return np.asarray(np.einsum("vi,vij->vj", local, self.matrices) + self.shifts)


class Skin:
    """The skin of a mesh.

    Args:
        deformer: skin deformer with at least one cluster.
        vertices: number of vertices V.
    """

    def __init__(self, deformer: Any, vertices: int) -> None:
        clusters = [cluster for cluster in items(deformer.clusters) if kept(cluster.bone_node) is not None]
        self._numbers = [cluster.typed_id for cluster in clusters]
        self.bones = [kept(cluster.bone_node) for cluster in clusters]
        points = [indices(cluster.vertices) for cluster in clusters]
        weights = [rows(cluster.weights, 1)[:, 0] for cluster in clusters]
        if any(len(p) != len(w) for p, w in zip(points, weights, strict=True)):
            raise BrokenMeshError(f"skin {deformer.name!r}: a cluster has different numbers of vertices and weights")
        counts = [len(p) for p in points]
        self._points = np.concatenate([np.zeros(0, np.int64), *points])
        self._weights = np.concatenate([np.zeros(0), *weights])
        self._owners = np.repeat(np.arange(len(counts)), counts)
        valid = (self._points < vertices) & (self._weights > 0) & np.isfinite(self._weights)
        self._points, self._weights, self._owners = self._points[valid], self._weights[valid], self._owners[valid]
        total = np.bincount(self._points, self._weights, vertices)
        self._weights = self._weights / total[self._points]
        self._free: BoolArray = total <= 0
        self._dual = _dual_weights(deformer, vertices)

    def placement(self, posed: Any, node_to_world: Float64Array) -> Placement:
        """Return how the vertices are placed in an evaluated scene.

        Args:
            posed: the evaluated scene.
            node_to_world: (4, 4) matrix for vertices without weights.
        """
        clusters = [item(posed.skin_clusters, number) for number in self._numbers]
        found = np.zeros((len(self._free), 12))
        if self._dual.min(initial=1.0) < 1.0:
            linear = np.array([matrix(cluster.geometry_to_world)[:, :3].reshape(12) for cluster in clusters])
            found = self._summed(linear.reshape(-1, 12))
        if self._dual.max(initial=0.0) > 0.0:
            transforms = [cluster.geometry_to_world_transform for cluster in clusters]
            share = self._dual[:, None]
            found = (1.0 - share) * found + share * self._dual_quaternions(transforms)
        found[self._free] = node_to_world[:, :3].reshape(12)
        return Placement(found[:, :9].reshape(-1, 3, 3), found[:, 9:])

    def _summed(self, values: Float64Array, signs: Float64Array | float = 1.0) -> Float64Array:
        """Return the (V, N) sums of (C, N) values of clusters, by the weights times the signs of these."""
        weights = self._weights * signs
        columns = [
            np.bincount(self._points, weights * values[self._owners, n], len(self._free))
            for n in range(values.shape[1])
        ]
        return np.stack(columns, axis=1)

    def _dual_quaternions(self, transforms: list[Any]) -> Float64Array:
        """Return (V, 12) placements of blended dual quaternions; scales are blended linearly and applied before.

        Source: Kavan et al., Geometric Skinning with Approximate Dual Quaternion Blending (2008).
        """
        turns = np.array([tuple(t.rotation) for t in transforms]).reshape(-1, 4)  # x, y, z, w
        shifts = np.array([tuple(t.translation) for t in transforms]).reshape(-1, 3)
        scales = np.array([tuple(t.scale) for t in transforms]).reshape(-1, 3)
        duals = _times(np.concatenate([0.5 * shifts, np.zeros((len(shifts), 1))], axis=1), turns)
        # Quaternions of one rotation have two signs: each takes that of the first one of its vertex.
        first = np.zeros(len(self._free), np.int64)
        first[self._points[::-1]] = self._owners[::-1]
        agree = (turns[self._owners] * turns[first[self._points]]).sum(axis=1) >= 0
        signs = np.where(agree, 1.0, -1.0)
        summed = self._summed(np.concatenate([turns, duals], axis=1), signs)
        length = np.linalg.norm(summed[:, :4], axis=1, keepdims=True)
        blended: Float64Array = summed / np.where(length > 0, length, 1.0)
        turn, dual = blended[:, :4], blended[:, 4:]
        shift = 2.0 * _times(dual, turn * [-1.0, -1.0, -1.0, 1.0])[:, :3]
        placed = self._summed(scales)[:, :, None] * _rows_of(turn)
        return np.concatenate([placed.reshape(-1, 9), shift], axis=1)


def _dual_weights(deformer: Any, vertices: int) -> Float64Array:
    """Return the (V,) shares of dual-quaternion skinning."""
    method = deformer.skinning_method
    shares = np.full(vertices, 1.0 if method == ufbx.SkinningMethod.DUAL_QUATERNION else 0.0)
    if method == ufbx.SkinningMethod.BLENDED_DQ_LINEAR:
        points, values = indices(deformer.dq_vertices), rows(deformer.dq_weights, 1)[:, 0]
        count = min(len(points), len(values))
        points, values = points[:count], np.clip(np.nan_to_num(values[:count]), 0.0, 1.0)
        shares[points[points < vertices]] = values[points < vertices]
    return shares


def _times(a: Float64Array, b: Float64Array) -> Float64Array:
    """Return the (N, 4) products of quaternions (x, y, z, w)."""
    vector = a[:, 3:] * b[:, :3] + b[:, 3:] * a[:, :3] + np.cross(a[:, :3], b[:, :3])
    return np.concatenate([vector, (a[:, 3:] * b[:, 3:]) - (a[:, :3] * b[:, :3]).sum(axis=1, keepdims=True)], axis=1)


def _rows_of(turns: Float64Array) -> Float64Array:
    """Return the (N, 3, 3) matrices, for row vectors, of unit quaternions (x, y, z, w)."""
    x, y, z, w = turns.T
    return np.stack(
        [
            np.stack([1 - 2 * (y * y + z * z), 2 * (x * y + z * w), 2 * (x * z - y * w)], axis=1),
            np.stack([2 * (x * y - z * w), 1 - 2 * (x * x + z * z), 2 * (y * z + x * w)], axis=1),
            np.stack([2 * (x * z + y * w), 2 * (y * z - x * w), 1 - 2 * (x * x + y * y)], axis=1),
        ],
        axis=1,
    )
