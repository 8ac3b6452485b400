"""Finds the nearest points of a triangle mesh, exactly, in about a microsecond each."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.voxelize.kernels.surface_kernels import list_cells, nearest_on_surface

_MOST_CELLS = 128  # per side: 8 MB of offsets


@dataclass(frozen=True, eq=False)
class Surface:
    """A triangle mesh and a grid of cells over it.

    Attributes:
        vertices: float64 (V, 3).
        faces: int64 (F, 3); at least one.
        low: float64 (3,), the corner of the grid.
        cell: side of a cell.
        side: cells per axis.
        starts: int64 (side³ + 1,), where each cell begins in `members`.
        members: int32 (M,), the triangles of all cells.
    """

    vertices: np.ndarray
    faces: np.ndarray
    low: np.ndarray
    cell: float
    side: int
    starts: np.ndarray
    members: np.ndarray

    @classmethod
    def build(cls, vertices: np.ndarray, faces: np.ndarray) -> Surface:
        """Build the grid of a mesh: vertices (V, 3), faces (F, 3).

        Raises:
            ConfigError: if the mesh has no face.
        """
        if not len(faces):
            raise ConfigError("the mesh has no faces: there is no nearest point")
        points = np.ascontiguousarray(vertices, np.float64)
        corners = np.ascontiguousarray(faces, np.int64)
        used = points[corners.ravel()]
        low = used.min(axis=0)
        # A cell then holds about a dozen triangles of a surface.
        side = int(np.clip(np.sqrt(len(faces) / 12), 1, _MOST_CELLS))
        cell = max(float((used.max(axis=0) - low).max()) / side, 1e-12)
        counts = np.zeros(side**3 + 1, np.int64)
        list_cells(points, corners, low, cell, side, counts, np.zeros(0, np.int32))
        starts = np.concatenate([np.zeros(1, np.int64), np.cumsum(counts[:-1])])
        members = np.zeros(max(int(starts[-1]), 1), np.int32)
        list_cells(points, corners, low, cell, side, starts[:-1].copy(), members)
        return cls(points, corners, low, cell, side, starts, members)

    def nearest(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Return the nearest surface points of (P, 3) points: float64 (P, 3), and their triangles, int64 (P,)."""
        found = np.zeros((len(points), 3))
        owner = np.zeros(len(points), np.int64)
        given = np.ascontiguousarray(points, np.float64)
        grid = self.low, self.cell, self.side, self.starts, self.members
        nearest_on_surface(given, self.vertices, self.faces, *grid, found, owner)
        return found, owner
