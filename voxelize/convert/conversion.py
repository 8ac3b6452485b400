"""Triangles become a sparse dual grid: active voxels, crossed edges, dual vertices, and attributes if asked for.

The work is one pass over the triangles that scatters into a two-level grid (a dense top of 8^3 bricks, and for each
brick in use a table of the slots of its voxels), then one over the bricks in Morton order that solves and writes.
Algorithm and conventions are TRELLIS.2's; docs/voxelize.md has the details and the cost.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import numpy as np
from helix4d.voxelize.convert.gpu import convert_on_gpu, gpu_works
from helix4d.voxelize.convert.surface import NO_MATERIALS, MaterialTable
from helix4d.voxelize.errors import GeometryError, outside_error
from helix4d.voxelize.kernels import scatter_kernels as scatter
from helix4d.voxelize.kernels.boundary_kernels import scatter_boundary
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.order_kernels import ORDER_SIDE, spatial_order
from helix4d.voxelize.kernels.solve_kernels import emit_voxels
from helix4d.voxelize.kernels.topology_kernels import boundary_edges, refine_labels
from helix4d.voxelize.ovoxel import MAX_RESOLUTION, grid_side, spread_table

Device = Literal["auto", "cpu", "gpu"]
"""Where to convert; "auto" is the GPU if there is one that passes a check against the CPU."""

_MOST_EXPECTED = 1 << 24
"""Voxels that room is made for before any is found. Sheets on top of each other share voxels, but not areas."""


@dataclass(frozen=True, eq=False)
class DualGrid:
    """What `dual_grid` finds, in Morton order.

    Attributes:
        resolution: voxels per side R.
        coords: (N, 3) int32 in [0, R).
        dual_vertices: (N, 3) float32 in [0, 1].
        intersected: (N, 3) bool.
    """

    resolution: int
    coords: np.ndarray
    dual_vertices: np.ndarray
    intersected: np.ndarray


@dataclass(frozen=True)
class QuadricWeights:
    """Weights of the terms of a voxel's quadric besides the planes of its crossings; TRELLIS.2's values."""

    face: float = 1.0
    boundary: float = 0.2
    regularization: float = 0.01


def dual_grid(
    vertices: np.ndarray,
    faces: np.ndarray,
    resolution: int,
    face_weight: float = 1.0,
    boundary_weight: float = 0.2,
    regularization_weight: float = 0.01,
    weld: bool = True,
    device: Device = "auto",
) -> DualGrid:
    """The dual grid of one mesh, without attributes.

    Args:
        vertices: (V, 3) float32 in [-0.5, 0.5]; those that no face uses may lie anywhere.
        faces: (F, 3) int32; triangles without area count for nothing but the boundary.
        resolution: voxels per side, 1 to 1024.
        face_weight, boundary_weight, regularization_weight: TRELLIS.2's terms; 0 leaves one out.
        weld: take vertices of equal position for one when looking for boundary edges.
        device: see `Device`.

    Raises:
        GeometryError: for an index without a vertex, a vertex outside the cube or one that is not finite.
        ValueError: for a resolution out of range.
    """
    warm_up()
    vertices, faces = np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
    check_faces(faces, len(vertices))
    labels = weld_labels([vertices] if weld else [], len(vertices))
    edges = boundary_edges(faces, labels)
    weights = QuadricWeights(face_weight, boundary_weight, regularization_weight)
    grid, _ = convert(vertices, faces, edges, resolution, weights, device=device)
    return grid


def check_faces(faces: np.ndarray, vertices: int) -> None:
    """Raise GeometryError unless every index of (F, 3) int32 faces is one of `vertices`."""
    if len(faces) and (faces.min() < 0 or faces.max() >= vertices):
        raise GeometryError(f"faces index vertices {faces.min()} to {faces.max()}, the mesh has {vertices}")


def weld_labels(frames: list[np.ndarray], vertices: int) -> np.ndarray:
    """(V,) int32: for each vertex the first one that has the same position in every one of the frames (V, 3)."""
    warm_up()
    labels = np.zeros(vertices, np.int32) if frames else np.arange(vertices, dtype=np.int32)
    for positions in frames:
        labels = refine_labels(np.ascontiguousarray(positions, np.float32), labels)
    return labels


def convert(
    vertices: np.ndarray,
    faces: np.ndarray,
    edges: np.ndarray,
    resolution: int,
    weights: QuadricWeights,
    materials: MaterialTable | None = None,
    uvs: np.ndarray | None = None,
    material_ids: np.ndarray | None = None,
    corner_colors: np.ndarray | None = None,
    device: Device = "auto",
    names: np.ndarray | None = None,
) -> tuple[DualGrid, np.ndarray]:
    """The dual grid and its (N, 6) uint8 attributes: base color 3, metallic, roughness, alpha.

    Without `materials` the attributes are empty, (0, 6). `edges` (E, 2) int32 are the boundary's, `names` (F,) what
    faces are called in errors; see `dual_grid` for the rest and the errors.
    """
    if not 1 <= resolution <= MAX_RESOLUTION:
        raise ValueError(f"resolution {resolution} is not between 1 and {MAX_RESOLUTION}")
    warm_up()
    vertices, faces = np.ascontiguousarray(vertices, np.float32), np.ascontiguousarray(faces, np.int32)
    uvs = _NO_UVS if uvs is None else np.ascontiguousarray(uvs, np.float32)
    corner_colors = _NO_COLORS if corner_colors is None else np.ascontiguousarray(corner_colors, np.float32)
    material_ids = _NO_IDS if material_ids is None else np.ascontiguousarray(material_ids, np.int32)
    if device == "gpu" or (device == "auto" and gpu_works()):
        *arrays, attributes = convert_on_gpu(
            vertices, faces, edges, resolution, weights, materials, uvs, material_ids, corner_colors, names
        )
        return DualGrid(resolution, *arrays), attributes
    with_attributes = materials is not None
    if materials is None:
        materials = NO_MATERIALS
    side = grid_side(resolution)
    spread = spread_table(side)
    order, shadow = spatial_order(vertices, faces, spread_table(ORDER_SIDE))
    # Expected voxels; `grow` makes up for what the guess lacks.
    guess = min(1.1 * shadow * resolution**2, float(side) ** 3, _MOST_EXPECTED) if math.isfinite(shadow) else 0.0
    store = _Store(side, int(guess) + 4096, with_attributes)
    turn = 0
    while True:
        turn = scatter.scatter_triangles(
            turn,
            order,
            vertices,
            faces,
            resolution,
            weights.face,
            weights.regularization,
            spread,
            store.top,
            store.table,
            store.sums,
            store.colors,
            store.flags,
            store.state,
            uvs,
            corner_colors,
            material_ids,
            materials.layout,
            materials.transforms,
            materials.factors,
            materials.texels,
        )
        if turn == scatter.FINISHED:
            break
        if turn == scatter.OUTSIDE:
            bad = int(store.state[scatter.BAD_FACE])
            raise outside_error(bad, vertices, faces, names)
        store.grow(int(np.ptp(vertices[faces[order[turn]]], axis=0).max() * resolution) + 2)
    if weights.boundary > 0.0:
        scatter_boundary(vertices, edges, resolution, weights.boundary, spread, store.top, store.table, store.sums)
    return _emitted(resolution, weights, store)


def _emitted(resolution: int, weights: QuadricWeights, store: _Store) -> tuple[DualGrid, np.ndarray]:
    count = int(store.state[scatter.ACTIVE])
    grid = DualGrid(
        resolution,
        np.empty((count, 3), np.int32),
        np.empty((count, 3), np.float32),
        np.empty((count, 3), np.bool_),
    )
    attributes = np.empty((count if len(store.colors) else 0, 6), np.uint8)
    emit_voxels(
        weights.regularization,
        store.top,
        store.table,
        store.sums,
        store.colors,
        store.flags,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        attributes,
    )
    return grid, attributes


class _Store:
    """The arrays of the two-level grid, which grow with the voxels in use."""

    def __init__(self, side: int, voxels: int, with_attributes: bool) -> None:
        self.with_attributes = with_attributes
        self.top = np.zeros((side // 8) ** 3, np.int32)
        self.state = np.array([1, 1, 0, 0], np.int64)
        self.table = np.empty((0, 512), np.int32)
        self.sums = np.empty((0, 12), np.float32)
        self.flags = np.empty(0, np.uint8)
        self.colors = np.empty((0, 8), np.float32)
        self._resize(voxels // 32 + 64, voxels)

    def grow(self, extent: int) -> None:
        """Make room for at least one triangle of `extent` voxels along its longest side."""
        bricks, slots = int(self.state[scatter.BRICKS]), int(self.state[scatter.SLOTS])
        need_bricks = bricks + 5 * (extent // 8 + 2) ** 2
        need_slots = slots + 5 * extent**2
        self._resize(
            max(len(self.table), need_bricks + bricks // 2) if need_bricks > len(self.table) else len(self.table),
            max(len(self.sums), need_slots + slots // 2) if need_slots > len(self.sums) else len(self.sums),
        )

    def _resize(self, bricks: int, slots: int) -> None:
        self.table = _resized(self.table, bricks)
        self.sums = _resized(self.sums, slots)
        self.flags = _resized(self.flags, slots)
        if self.with_attributes:
            self.colors = _resized(self.colors, slots)


def _resized(array: np.ndarray, length: int) -> np.ndarray:
    if length == len(array):
        return array
    larger = np.empty((length, *array.shape[1:]), array.dtype)
    larger[: len(array)] = array
    return larger


_NO_UVS = np.zeros((0, 0, 3, 2), np.float32)
_NO_COLORS = np.zeros((0, 3, 4), np.float32)
_NO_IDS = np.zeros(0, np.int32)
