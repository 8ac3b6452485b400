"""Triangulates polygons: as a fan, like USD's own renderers, if no triangle of it is inverted, else by ear clipping."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.core.arrays import BoolArray, Float64Array, Int64Array


@dataclass(frozen=True, eq=False)
class Triangles:
    """Triangles of a polygon mesh, in the order of its polygons.

    Attributes:
        points: (F, 3) int64 index of the point of each corner.
        corners: (F, 3) int64 index of each corner among the corners of all polygons.
        polygons: (F,) int64 index of the polygon.
    """

    points: Int64Array
    corners: Int64Array
    polygons: Int64Array

    def flipped(self) -> Triangles:
        """Return the triangles with the opposite orientation."""
        order = [0, 2, 1]
        return Triangles(self.points[:, order], self.corners[:, order], self.polygons)


def triangulate(counts: Int64Array, indices: Int64Array, positions: Float64Array) -> Triangles:
    """Triangulate polygons; those with fewer than three corners are dropped.

    Args:
        counts: (P,) int64 number of corners of each polygon, C in total.
        indices: (C,) int64 point of each corner.
        positions: (V, 3) float64 points, used to recognize concave polygons.
    """
    starts = np.cumsum(counts) - counts
    polygons: list[Int64Array] = []
    corners: list[Int64Array] = []
    for count in np.unique(counts[counts > 2]):
        chosen = np.flatnonzero(counts == count)
        loops = starts[chosen, None] + np.arange(count)
        local = np.stack([np.zeros(count - 2, int), np.arange(1, count - 1), np.arange(2, count)], axis=1)
        cut = np.broadcast_to(local, (len(chosen), count - 2, 3)).copy()
        if count > 3:
            rings = positions[indices[loops]]
            for number in np.flatnonzero(~_fan_is_valid(rings)):
                cut[number] = _clip_ears(rings[number])
        corners.append((starts[chosen, None, None] + cut).reshape(-1, 3))
        polygons.append(np.repeat(chosen, count - 2))
    if not corners:
        return Triangles(np.zeros((0, 3), np.int64), np.zeros((0, 3), np.int64), np.zeros(0, np.int64))
    found, owners = np.concatenate(corners), np.concatenate(polygons)
    order = np.argsort(owners, kind="stable")
    return Triangles(indices[found[order]], found[order], owners[order])


def _fan_is_valid(rings: Float64Array) -> BoolArray:
    """Return an (N,) mask of (N, K, 3) polygons whose fan from the first corner has no inverted triangle."""
    spokes = rings[:, 1:] - rings[:, :1]
    cross = np.cross(spokes[:, :-1], spokes[:, 1:])
    normal = cross.sum(axis=1, keepdims=True)
    return np.asarray(((cross * normal).sum(axis=2) >= 0).all(axis=1))


def _clip_ears(ring: Float64Array) -> Int64Array:
    """Return the (K − 2, 3) triangles of one polygon of (K, 3) positions; where no ear is left, the rest is a fan."""
    flat = projected(ring, ring)
    left = list(range(len(ring)))
    found = []
    while len(left) > 3:
        for slot in range(len(left)):
            ear = [left[slot - 1], left[slot], left[(slot + 1) % len(left)]]
            if _is_ear(flat, ear, left):
                break
        else:
            break
        found.append(ear)
        left.pop(slot)
    found += [[left[0], left[n], left[n + 1]] for n in range(1, len(left) - 1)]
    return np.array(found, np.int64)


def projected(points: Float64Array, ring: Float64Array) -> Float64Array:
    """Return (N, 2) positions of (N, 3) points on the plane of a polygon (K, 3), in which it is counter-clockwise."""
    following = np.roll(ring, -1, axis=0)
    normal = np.cross(ring - ring[0], following - ring[0]).sum(axis=0)
    axis = int(np.abs(normal).argmax())
    flat = points[:, [(axis + 1) % 3, (axis + 2) % 3]]
    return flat if normal[axis] >= 0 else flat * [-1.0, 1.0]


def _is_ear(flat: Float64Array, ear: list[int], left: list[int]) -> bool:
    a, b, c = flat[ear]
    if _turn(a, b, c[None])[0] <= 0:
        return False
    others = flat[[number for number in left if number not in ear]]
    inside = (_turn(a, b, others) >= 0) & (_turn(b, c, others) >= 0) & (_turn(c, a, others) >= 0)
    # Corners that coincide with a corner of the ear, as where a polygon touches itself, do not block it.
    corner = (others[:, None] == flat[ear]).all(axis=2).any(axis=1)
    return not bool((inside & ~corner).any())


def _turn(a: Float64Array, b: Float64Array, points: Float64Array) -> Float64Array:
    edge, to = b - a, points - a
    return np.asarray(edge[0] * to[:, 1] - edge[1] * to[:, 0])
