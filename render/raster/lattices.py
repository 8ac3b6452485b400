"""Cuts the triangles of a topology into small ones, whose corners are the points at which light is gathered.

Each triangle is cut into n² by a lattice of barycentric coordinates, n a power of two. Lattice points on a common edge
or corner are one point, unless the triangles face different axes: across a sharp edge, light changes at once. Light
that is linear between the points needs small triangles; geometry and textures stay as they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.assets import Frame

_EDGE = 0.01
"""Wanted length of an edge, in units of the clip's cube."""
_MOST_CUTS = 32
_MOST_FACES = 60_000
"""Small triangles up to which a topology is cut."""
_MOST_FRAMES = 4


@dataclass(frozen=True, eq=False)
class Lattices:
    """The lattices of a topology with F triangles.

    Attributes:
        sources: (K, 3) int32 vertices around each point.
        weights: (K, 3) float32 their weights.
        cuts: (F,) int32 n of each triangle.
        starts: (F,) int32 where its points begin in `places`.
        places: (L,) int32 points of all triangles. Of a triangle, those a steps from corner 0 toward corner 1 and b
            toward corner 2 come row by row: all b of a = 0, all b of a = 1, ...
        faces: (G, 3) int32 points of the small triangles.
        parents: (G,) int32 triangle that each is part of.
        barycentrics: (G, 3, 3) float32 of their corners in that triangle.
    """

    sources: np.ndarray
    weights: np.ndarray
    cuts: np.ndarray
    starts: np.ndarray
    places: np.ndarray
    faces: np.ndarray
    parents: np.ndarray
    barycentrics: np.ndarray

    def whole(self, corners: np.ndarray) -> np.ndarray:
        """(F, 3) values of the triangles' corners, picked from (G, 3) values of those of the small triangles."""
        n = self.cuts.astype(np.int64)
        first = np.cumsum(n * n) - n * n
        places = first, first + n * n - 1, first + 2 * n - 2
        return np.stack([corners[place, corner] for corner, place in enumerate(places)], axis=1)

    def at_points(self, values: np.ndarray) -> np.ndarray:
        """Interpolate (V, C) values of the vertices: (K, C) float32."""
        values = values.astype(np.float32, copy=False)
        return np.asarray(sum(values[self.sources[:, k]] * self.weights[:, k, None] for k in range(3)))

    def at_corners(self, values: np.ndarray) -> np.ndarray:
        """Interpolate (F, 3, C) values of the triangles' corners: (G, 3, C) float32."""
        return np.asarray(np.einsum("gij,gjc->gic", self.barycentrics, values[self.parents].astype(np.float32)))


def cut_triangles(frames: Sequence[Frame]) -> Lattices:
    """Cut the triangles of frames that share a topology; edges are measured in up to four of them."""
    faces = frames[0].topology.faces
    axes = _axes(frames[0])
    longest = np.zeros(len(faces))
    for number in sorted(set(np.linspace(0, len(frames) - 1, _MOST_FRAMES).astype(int))):
        triangles = frames[number].vertices[faces].astype(np.float64)
        edges = np.linalg.norm(triangles - np.roll(triangles, 1, axis=1), axis=2)
        longest = np.maximum(longest, edges.max(axis=1, initial=0.0))
    cuts = _cuts(longest)
    lattices = {n: _Lattice.of(n) for n in np.unique(cuts).tolist()}
    sizes = np.zeros(_MOST_CUTS + 1, np.int64)
    for n, lattice in lattices.items():
        sizes[n] = len(lattice.steps)
    starts = np.cumsum(sizes[cuts]) - sizes[cuts]
    firsts = np.cumsum(cuts.astype(np.int64) ** 2) - cuts.astype(np.int64) ** 2
    rows = np.zeros((int(sizes[cuts].sum()), 6), np.int32)
    parts = np.zeros((int((cuts.astype(np.int64) ** 2).sum()), 3), np.int64)
    parents, barycentrics = np.repeat(np.arange(len(faces)), cuts.astype(np.int64) ** 2), np.zeros((len(parts), 3, 3))
    for n, lattice in lattices.items():
        own = np.flatnonzero(cuts == n)
        inside = starts[own, None] + np.arange(len(lattice.steps))
        rows[inside] = _keys(6 * faces[own] + axes[own, None], lattice.steps * (_MOST_CUTS // n))
        small = firsts[own, None] + np.arange(n * n)
        parts[small] = starts[own, None, None] + lattice.triangles
        barycentrics[small] = lattice.steps[lattice.triangles] / n
    points, places = np.unique(rows, axis=0, return_inverse=True)
    places = places.reshape(-1).astype(np.int32)
    return Lattices(
        np.maximum(points[:, :3], 0) // 6,
        (points[:, 3:] / _MOST_CUTS).astype(np.float32),
        cuts.astype(np.int32),
        starts.astype(np.int32),
        places,
        places[parts],
        parents.astype(np.int32),
        barycentrics.astype(np.float32),
    )


@dataclass(frozen=True, eq=False)
class _Lattice:
    """Steps (P, 3) from the corners of a triangle cut into n², in n-ths, and (n², 3) the small triangles."""

    steps: np.ndarray
    triangles: np.ndarray

    @classmethod
    def of(cls, n: int) -> _Lattice:
        place: dict[tuple[int, int], int] = {}
        for a in range(n + 1):
            for b in range(n + 1 - a):
                place[a, b] = len(place)
        triangles = []
        for a in range(n):
            for b in range(n - a):
                triangles.append((place[a, b], place[a + 1, b], place[a, b + 1]))
                if a + b < n - 1:
                    triangles.append((place[a + 1, b], place[a + 1, b + 1], place[a, b + 1]))
        steps = np.array([(n - a - b, a, b) for a, b in place])
        return cls(steps, np.array(triangles))


def _cuts(longest: np.ndarray) -> np.ndarray:
    """(F,) powers of two that cut edges of these lengths to `_EDGE`, or as far as `_MOST_FACES` allows."""
    edge = _EDGE
    while True:
        cuts = 2 ** np.ceil(np.log2(np.clip(longest / edge, 1.0, _MOST_CUTS))).astype(np.int64)
        if (cuts**2).sum() <= max(_MOST_FACES, len(longest)):
            return np.asarray(cuts)
        edge *= 2.0**0.25


def _axes(frame: Frame) -> np.ndarray:
    """(F,) int32 from 0 to 5: the axis and sense that each triangle faces most."""
    corners = frame.vertices[frame.faces].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    axis = np.argmax(np.abs(normals), axis=1)
    return np.asarray(2 * axis + (np.take_along_axis(normals, axis[:, None], 1)[:, 0] < 0), np.int32)


def _keys(faces: np.ndarray, steps: np.ndarray) -> np.ndarray:
    """(M, P, 6) vertices and their weights, equal for the same point of two triangles; unused vertices are -1."""
    weights = np.broadcast_to(steps, (len(faces), *steps.shape))
    vertices = np.where(weights > 0, faces[:, None, :], -1)
    order = np.argsort(vertices, axis=2, kind="stable")
    return np.concatenate([np.take_along_axis(vertices, order, 2), np.take_along_axis(weights, order, 2)], axis=2)
