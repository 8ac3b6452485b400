"""Conversion on the CPU: one pass over the triangles, then one over the voxels.

The first pass scatters into a two-level grid: a dense top level of 8^3 bricks, and for each brick in use a table of its
voxels' slots. The second pass solves the quadrics and writes the bricks in Morton order.
"""

from __future__ import annotations

import math

import numpy as np

from helix4d.voxelize.convert.grid import Attributes, DualGrid, QuadricWeights, grid_scale
from helix4d.voxelize.convert.triangles import Triangles
from helix4d.voxelize.errors import outside_error
from helix4d.voxelize.kernels import scatter_kernels as scatter
from helix4d.voxelize.kernels.boundary_kernels import scatter_boundary
from helix4d.voxelize.kernels.order_kernels import ORDER_SIDE, spatial_order
from helix4d.voxelize.kernels.solve_kernels import emit_voxels
from helix4d.voxelize.ovoxel import grid_side, spread_table

_MOST_EXPECTED = 1 << 24
"""Most voxels to allocate in advance: stacked sheets share voxels, so area overestimates their number."""


class Workspace:
    """Memory of a conversion, reused by the next one: the operating system must clear new pages, but not used ones.

    Not thread-safe: use one per thread.
    """

    def __init__(self) -> None:
        self._store: _Store | None = None

    def store(self, side: int, voxels: int, with_attributes: bool) -> _Store:
        """Return an empty grid with room for this many voxels or more."""
        kept = self._store
        if kept is None or not kept.serves(side, voxels, with_attributes):
            self._store = kept = None  # freed before the larger one is allocated
            self._store = kept = _Store(side, voxels, with_attributes)
        else:
            kept.clear()
        return kept


def convert_on_cpu(
    vertices: np.ndarray,
    triangles: Triangles,
    resolution: int,
    weights: QuadricWeights,
    workspace: Workspace | None = None,
) -> tuple[DualGrid, Attributes]:
    """`conversion.convert` on the CPU, with contiguous vertices.

    Raises:
        GeometryError: if a face is not finite or outside the cube.
    """
    faces, materials = triangles.faces, triangles.table
    side = grid_side(resolution)
    spread = spread_table(side)
    order, shadow = spatial_order(vertices, faces, spread_table(ORDER_SIDE))
    # Expected number of voxels; `grow` corrects a guess that is too small.
    guess = min(1.1 * shadow * resolution**2, float(side) ** 3, _MOST_EXPECTED) if math.isfinite(shadow) else 0.0
    store = (workspace or Workspace()).store(side, int(guess) + 4096, triangles.materials is not None)
    turn = 0
    while True:
        turn = scatter.scatter_triangles(
            turn,
            order,
            vertices,
            faces,
            resolution,
            grid_scale(resolution),
            weights.face,
            weights.regularization,
            spread,
            store.top,
            store.table,
            store.masks,
            store.sums,
            store.colors,
            store.flags,
            store.state,
            triangles.uvs,
            triangles.colors,
            triangles.material_ids,
            materials.layout,
            materials.transforms,
            materials.factors,
            materials.texels,
        )
        if turn == scatter.FINISHED:
            break
        if turn == scatter.OUTSIDE:
            bad = int(store.state[scatter.BAD_FACE])
            raise outside_error(bad, vertices, faces, triangles.names)
        store.grow(int(np.ptp(vertices[faces[order[turn]]], axis=0).max() * resolution) + 2)
    if weights.boundary > 0.0:
        scatter_boundary(
            vertices, triangles.edges, resolution, weights.boundary, spread, store.top, store.table, store.sums
        )
    return _emitted(resolution, weights, store)


def _emitted(resolution: int, weights: QuadricWeights, store: _Store) -> tuple[DualGrid, Attributes]:
    bricks = int(store.state[scatter.BRICKS])
    count = int(np.bitwise_count(store.masks[1:bricks]).sum())
    grid = DualGrid(
        resolution,
        np.empty((count, 3), np.int32),
        np.empty((count, 3), np.float32),
        np.empty((count, 3), np.bool_),
    )
    rows = count if store.with_attributes else 0
    attributes = Attributes(np.empty((rows, 3), np.uint8), np.empty((3, rows), np.uint8))
    emit_voxels(
        weights.regularization,
        store.top,
        store.table,
        store.masks,
        store.sums,
        store.colors,
        store.flags,
        grid.coords,
        grid.dual_vertices,
        grid.intersected,
        attributes.base_color,
        attributes.surface,
    )
    return grid, attributes


class _Store:
    """The arrays of the two-level grid, which grow with the number of voxels in use."""

    def __init__(self, side: int, voxels: int, with_attributes: bool) -> None:
        self.with_attributes = with_attributes
        self.top = np.zeros((side // 8) ** 3, np.int32)
        self.state = np.array([1, 1, 0], np.int64)
        self.table = np.empty((0, 512), np.int32)
        self.masks = np.empty((0, 8), np.uint64)
        self.sums = np.empty((0, 12), np.float32)
        self.flags = np.empty(0, np.uint8)
        self.colors = np.empty((0, 8), np.float32)
        self._resize(voxels // 32 + 64, voxels)

    def serves(self, side: int, voxels: int, with_attributes: bool) -> bool:
        """Return whether this memory suffices for a grid of this kind."""
        room = len(self.sums) >= voxels and len(self.table) >= voxels // 32 + 64
        return room and len(self.top) == (side // 8) ** 3 and self.with_attributes == with_attributes

    def clear(self) -> None:
        """Remove all voxels."""
        self.top[:] = 0
        self.state[:] = 1, 1, 0

    def grow(self, extent: int) -> None:
        """Make room for at least one triangle with a bounding box of up to `extent` voxels per side."""
        bricks, slots = int(self.state[scatter.BRICKS]), int(self.state[scatter.SLOTS])
        need_bricks = bricks + 5 * (extent // 8 + 2) ** 2
        need_slots = slots + 5 * extent**2
        self._resize(
            max(len(self.table), need_bricks + bricks // 2) if need_bricks > len(self.table) else len(self.table),
            max(len(self.sums), need_slots + slots // 2) if need_slots > len(self.sums) else len(self.sums),
        )

    def _resize(self, bricks: int, slots: int) -> None:
        self.table = _resized(self.table, bricks)
        self.masks = _resized(self.masks, bricks)
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
