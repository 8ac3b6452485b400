"""Parametric triangle meshes with normals and UVs: lathes, tubes, sheets and rounded boxes.

Axes are glTF's: Y up, meters, triangles counter-clockwise seen from outside, v = 0 at the top of the image. All shapes
use the same shading: the normal of a corner averages the faces around its point that meet at less than a crease angle.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

_WELD_M = 1e-6

Vector = Sequence[float] | np.ndarray
"""A point, a direction or a color."""


@dataclass(frozen=True, eq=False)
class Shape:
    """A triangle mesh.

    Attributes:
        positions: (V, 3) float64 meters.
        normals: (V, 3) float64 unit.
        uvs: (V, 2) float64.
        faces: (F, 3) int64.
        colors: (V, 4) float64 linear RGBA in [0, 1], or None.
        joints: (V, 4) int64 joint numbers, or None.
        weights: (V, 4) float64 that sum to 1, or None.
    """

    positions: np.ndarray
    normals: np.ndarray
    uvs: np.ndarray
    faces: np.ndarray
    colors: np.ndarray | None = None
    joints: np.ndarray | None = None
    weights: np.ndarray | None = None

    def moved(self, offset: Vector) -> Shape:
        """Return the shape translated by (3,) meters."""
        return replace(self, positions=self.positions + np.asarray(offset))

    def turned(self, matrix: np.ndarray) -> Shape:
        """Return the shape rotated by a (3, 3) matrix."""
        return replace(self, positions=self.positions @ matrix.T, normals=self.normals @ matrix.T)

    def scaled(self, factors: Vector) -> Shape:
        """Return the shape scaled by positive factors per axis."""
        normals = self.normals / np.asarray(factors)
        return replace(self, positions=self.positions * np.asarray(factors), normals=_unit(normals))

    def colored(self, rgb: Vector, alpha: float = 1.0) -> Shape:
        """Return the shape with a uniform linear vertex color."""
        return replace(self, colors=np.tile([*rgb, alpha], (len(self.positions), 1)))

    def bound_to(self, joint: int) -> Shape:
        """Return the shape bound rigidly to one joint."""
        joints = np.zeros((len(self.positions), 4), int)
        joints[:, 0] = joint
        weights = np.zeros((len(self.positions), 4))
        weights[:, 0] = 1.0
        return replace(self, joints=joints, weights=weights)


def join(shapes: Sequence[Shape]) -> Shape:
    """Combine shapes that have the same optional attributes."""
    offsets = np.cumsum([0, *(len(shape.positions) for shape in shapes[:-1])])
    faces = np.concatenate([shape.faces + offset for shape, offset in zip(shapes, offsets, strict=True)])

    def stacked(name: str) -> np.ndarray | None:
        arrays = [getattr(shape, name) for shape in shapes]
        return None if arrays[0] is None else np.concatenate(arrays)

    return Shape(
        np.concatenate([shape.positions for shape in shapes]),
        np.concatenate([shape.normals for shape in shapes]),
        np.concatenate([shape.uvs for shape in shapes]),
        faces,
        stacked("colors"),
        stacked("joints"),
        stacked("weights"),
    )


def sheet(points: np.ndarray, crease_deg: float = 180.0, uvs: np.ndarray | None = None) -> Shape:
    """Return a surface through a grid of points.

    Args:
        points: (M, N, 3) points, rows upward and columns to the right as seen from the side of the normals. A closed
            surface repeats its first column or row, a pole repeats a point.
        crease_deg: angle above which edges are sharp.
        uvs: (M, N, 2) UVs; by default, the image fills the grid.
    """
    rows, columns = points.shape[:2]
    if uvs is None:
        v, u = np.meshgrid(np.linspace(1.0, 0.0, rows), np.linspace(0.0, 1.0, columns), indexing="ij")
        uvs = np.stack([u, v], axis=-1)
    corner = (np.arange(rows - 1)[:, None] * columns + np.arange(columns - 1)[None, :]).reshape(-1)
    below = np.stack([corner, corner + 1, corner + columns + 1], axis=-1)
    above = np.stack([corner, corner + columns + 1, corner + columns], axis=-1)
    faces = np.stack([below, above], axis=1).reshape(-1, 3)
    return shaded(points.reshape(-1, 3), faces, uvs.reshape(-1, 2), crease_deg)


def lathe(profile: np.ndarray, segments: int, crease_deg: float = 40.0) -> Shape:
    """Return a solid of revolution about Y.

    Args:
        profile: (K, 2) radius and height, from the bottom up along the outside (and down again along the inside).
        segments: number of segments around the axis.
        crease_deg: angle above which edges are sharp.
    """
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    radius, height = np.asarray(profile, float).T
    x = radius[:, None] * np.cos(angle)
    z = -radius[:, None] * np.sin(angle)
    points = np.stack([x, np.broadcast_to(height[:, None], x.shape), z], axis=-1)
    points[:, -1] = points[:, 0]  # sin(2π) is not exactly 0
    return sheet(points, crease_deg)


def sphere(radius: float, rings: int = 16, segments: int = 32) -> Shape:
    """Return a sphere around the origin with poles on Y."""
    angle = np.linspace(-np.pi / 2, np.pi / 2, rings + 1)
    profile = np.stack([np.cos(angle), np.sin(angle)], axis=-1) * radius
    profile[[0, -1], 0] = 0.0
    return lathe(profile, segments, 180.0)


def tube(path: np.ndarray, radii: np.ndarray, segments: int = 12, crease_deg: float = 60.0) -> Shape:
    """Return a round tube; a radius of 0 closes an end.

    Args:
        path: (K, 3) center line.
        radii: (K,) radii in meters.
        segments: number of segments around the line.
        crease_deg: angle above which edges are sharp.
    """
    path = np.asarray(path, float)
    tangents = _unit(np.gradient(path, axis=0))
    side = np.cross(tangents[0], [0.0, 0.0, 1.0] if abs(tangents[0][2]) < 0.9 else [1.0, 0.0, 0.0])
    angle = np.linspace(0.0, 2 * np.pi, segments + 1)
    rings = []
    for point, tangent, radius in zip(path, tangents, radii, strict=True):
        side = _unit(side - tangent * (side @ tangent))  # parallel transport, so that the tube does not twist
        other = np.cross(tangent, side)
        ring = point + radius * (np.cos(angle)[:, None] * side + np.sin(angle)[:, None] * other)
        ring[-1] = ring[0]
        rings.append(ring)
    return sheet(np.array(rings), crease_deg)


def capsule(path: np.ndarray, radii: np.ndarray, segments: int = 12, cap_rings: int = 4) -> Shape:
    """Return a tube with hemispheres at both ends."""
    path, radii = np.asarray(path, float), np.asarray(radii, float)
    angle = np.linspace(0.0, np.pi / 2, cap_rings + 1)[:-1]
    first, last = _unit(path[0] - path[1]), _unit(path[-1] - path[-2])
    start = path[0] + np.cos(angle)[:, None] * radii[0] * first
    end = (path[-1] + np.cos(angle)[:, None] * radii[-1] * last)[::-1]
    all_radii = np.concatenate([np.sin(angle) * radii[0], radii, (np.sin(angle) * radii[-1])[::-1]])
    return tube(np.concatenate([start, path, end]), all_radii, segments, 180.0)


def rounded_box(size: Vector, bevel: float, steps: int = 3, cuts: int = 1) -> Shape:
    """Return a box around the origin with rounded edges; each side shows the entire image.

    Args:
        size: (3,) side lengths.
        bevel: radius of the edges.
        steps: number of rings per rounded edge.
        cuts: number of subdivisions of the flat sides.
    """
    half = np.asarray(size, float) / 2
    inner = half - bevel
    ramp = np.tan(np.linspace(0.0, np.pi / 4, steps + 1))
    sides = []
    for axis in range(3):
        right, up = (axis + 1) % 3, (axis + 2) % 3
        for sign in (1.0, -1.0):
            lines = []
            for across in (right, up):
                edge = inner[across] + bevel * ramp
                middle = np.linspace(-inner[across], inner[across], cuts + 1)[1:-1]
                lines.append(np.concatenate([-edge[::-1], middle, edge]))
            columns = lines[0] * sign  # mirrored on the negative side to keep the winding outward
            points = np.empty((len(lines[1]), len(lines[0]), 3))
            points[..., axis] = sign * half[axis]
            points[..., right] = columns[None, :]
            points[..., up] = lines[1][:, None]
            side = sheet(np.clip(points, -inner, inner) + bevel * _unit(points - np.clip(points, -inner, inner)))
            away = _unit(side.positions - np.clip(side.positions, -inner, inner))
            u = sign * side.positions[:, right] / half[right]
            v = -side.positions[:, up] / half[up]
            sides.append(replace(side, normals=away, uvs=np.stack([u, v], axis=-1) / 2 + 0.5))
    return join(sides)


def displaced(shape: Shape, move: Callable[[np.ndarray], np.ndarray]) -> Shape:
    """Apply `move` to the (V, 3) positions of a shape, and recompute smooth normals."""
    positions = move(shape.positions)
    return replace(shape, positions=positions, normals=smooth_normals(positions, shape.faces, welded(shape.positions)))


def shaded(positions: np.ndarray, faces: np.ndarray, uvs: np.ndarray, crease_deg: float) -> Shape:
    """Return a shape in which corners of equal point, UV and normal share a vertex; degenerate faces are dropped.

    Args:
        positions: (V, 3) positions; vertices at the same position are one point for shading.
        faces: (F, 3) vertex indices.
        uvs: (V, 2) UVs.
        crease_deg: angle above which a neighboring face is excluded from the average.
    """
    points = welded(positions)
    around = points[faces]
    distinct = (around != np.roll(around, 1, axis=1)).all(axis=1)
    faces, around = faces[distinct], around[distinct]
    corners = positions[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    corner_normals = _corner_normals(area, around.reshape(-1), np.cos(np.radians(crease_deg)))
    rows = np.column_stack([around.reshape(-1), uvs[faces.reshape(-1)], corner_normals])
    _, first, inverse = np.unique(np.round(rows, 5), axis=0, return_index=True, return_inverse=True)
    # In the order of first use, which does not depend on the last bits of the sorted values.
    order = np.argsort(first)
    number = np.empty(len(order), int)
    number[order] = np.arange(len(order))
    used = faces.reshape(-1)[first[order]]
    return Shape(positions[used], corner_normals[first[order]], uvs[used], number[inverse.reshape(-1)].reshape(-1, 3))


def smooth_normals(positions: np.ndarray, faces: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Return (V, 3) area-weighted normals; vertices with the same number in `points` (V,) share a normal."""
    corners = positions[faces]
    area = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    sums = np.zeros((int(points.max()) + 1, 3))
    np.add.at(sums, points[faces].reshape(-1), np.repeat(area, 3, axis=0))
    normals: np.ndarray = _unit(sums)[points]
    return normals


def welded(positions: np.ndarray) -> np.ndarray:
    """Return (V,) integers that are equal for vertices at the same position."""
    _, points = np.unique(np.round(positions / _WELD_M).astype(np.int64), axis=0, return_inverse=True)
    return points.reshape(-1)


def _corner_normals(area: np.ndarray, points: np.ndarray, least_cosine: float) -> np.ndarray:
    """Return (3F, 3) corner normals: sums of `area` (F, 3) over the faces at a point within the crease angle."""
    corner = np.repeat(area, 3, axis=0)
    direction = _unit(corner)
    order = np.argsort(points, kind="stable")
    counts = np.bincount(points, minlength=int(points.max()) + 1)
    starts = np.cumsum(counts) - counts
    mine = np.repeat(np.arange(len(points)), counts[points])  # all pairs of corners at one point
    within = np.arange(len(mine)) - np.repeat(np.cumsum(counts[points]) - counts[points], counts[points])
    other = order[starts[points[mine]] + within]
    near = np.einsum("ij,ij->i", direction[mine], direction[other]) >= least_cosine - 1e-9
    sums = np.zeros_like(corner)
    np.add.at(sums, mine[near], corner[other[near]])
    return _unit(sums)


def _unit(vectors: np.ndarray) -> np.ndarray:
    length = np.linalg.norm(vectors, axis=-1, keepdims=True)
    return vectors / np.where(length > 1e-12, length, 1.0)
