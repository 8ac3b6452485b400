"""Small meshes for these tests."""

from __future__ import annotations

import numpy as np

from helix4d.voxelize import OVoxel, dual_grid, extract_mesh
from helix4d.voxelize.mesh.cleaning import orient_faces


def icosphere(subdivisions: int, radius: float = 0.45) -> tuple[np.ndarray, np.ndarray]:
    """(V, 3) float32 vertices and (F, 3) int32 faces, 20 * 4^subdivisions of them, counter-clockwise from outside."""
    g = (1 + 5**0.5) / 2
    signs = np.array([[-1, g, 0], [1, g, 0], [-1, -g, 0], [1, -g, 0]])
    vertices = np.concatenate([signs, np.roll(signs, 1, axis=1), np.roll(signs, 2, axis=1)])
    rows = "0 11 5  0 5 1  0 1 7  0 7 10  0 10 11  1 5 9  5 11 4  11 10 2  10 7 6  7 1 8 "
    rows += "3 9 4  3 4 2  3 2 6  3 6 8  3 8 9  4 9 5  2 4 11  6 2 10  8 6 7  9 8 1"
    faces = np.array(rows.split(), np.int64).reshape(-1, 3)
    vertices = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    for _ in range(subdivisions):
        ends = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
        edges, where = np.unique(ends, axis=0, return_inverse=True)
        middle = vertices[edges].sum(axis=1)
        ab, bc, ca = np.split(where.ravel() + len(vertices), 3)
        vertices = np.concatenate([vertices, middle / np.linalg.norm(middle, axis=1, keepdims=True)])
        a, b, c = faces.T
        faces = np.concatenate(
            [np.stack(corners, axis=1) for corners in ((a, ab, ca), (b, bc, ab), (c, ca, bc), (ab, bc, ca))]
        )
    return (vertices * radius).astype(np.float32), faces.astype(np.int32)


def quad(height: float = 0.01, size: float = 0.8) -> tuple[np.ndarray, np.ndarray]:
    """A horizontal square of two triangles, facing up; its corners run (-, -), (+, -), (+, +), (-, +)."""
    s = size / 2
    vertices = np.array([[-s, -s, height], [s, -s, height], [s, s, height], [-s, s, height]], np.float32)
    return vertices, np.array([[0, 1, 2], [0, 2, 3]], np.int32)


def painted_sphere(resolution: int = 32, alpha: int = 255, radius: float = 0.45) -> OVoxel:
    """A sphere colored by position: red grows along x, green along y, blue along z."""
    vertices, faces = icosphere(3, radius)
    grid = dual_grid(vertices, faces, resolution)
    count = len(grid.coords)
    full = np.full((count, 1), 255, np.uint8)
    colors = ((grid.coords + 0.5) / resolution * 255).astype(np.uint8)
    opacity = np.full((count, 1), alpha, np.uint8)
    return OVoxel(resolution, grid.coords, grid.dual_vertices, grid.intersected, colors, full // 5, full // 2, opacity)


def surface(ovoxel: OVoxel) -> tuple[np.ndarray, np.ndarray]:
    """The oriented surface of an O-Voxel: (V, 3) vertices and (F, 3) faces."""
    vertices, faces = extract_mesh(ovoxel)
    return vertices, orient_faces(vertices, faces)
