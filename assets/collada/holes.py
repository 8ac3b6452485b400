"""Joins the holes of a polygon with its outline, so that it can be triangulated like any other."""

from __future__ import annotations

import numpy as np

from helix4d.assets.polygons import projected
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array

MOST_CORNERS = 2_000
"""Corners of a polygon with holes: the time to join these grows with their square."""


def joined(outline: Int64Array, holes: list[Int64Array], positions: Float64Array) -> Int64Array:
    """Return the (K,) corners of one outline that runs around all holes, along bridges that it passes twice.

    Args:
        outline: (N,) corners.
        holes: corners of each hole.
        positions: (C, 3) positions of all corners.
    """
    flat = np.zeros((len(positions), 2))
    rings = [outline, *holes]
    used = np.concatenate(rings)
    flat[used] = projected(positions[used], positions[outline])
    holes = [hole if _area(flat[hole]) < 0 else hole[::-1] for hole in holes]
    ring = outline
    # From the rightmost hole, something further to the right can always be seen.
    left = sorted(holes, key=lambda hole: -float(flat[hole, 0].max()))
    while left:
        hole = left.pop(0)
        start = int(flat[hole, 0].argmax())
        end = _visible(flat[hole[start]], ring, [ring, hole, *left], flat)
        around = np.concatenate([hole[start:], hole[: start + 1]])
        ring = np.concatenate([ring[: end + 1], around, ring[end:]])
    return ring


def _visible(place: Float64Array, ring: Int64Array, others: list[Int64Array], flat: Float64Array) -> int:
    """Return the place in the ring of the nearest corner that a straight line reaches without crossing an edge."""
    starts = np.concatenate([flat[other] for other in others])
    ends = np.concatenate([np.roll(flat[other], -1, axis=0) for other in others])
    order = np.argsort(((flat[ring] - place) ** 2).sum(axis=1), kind="stable")
    for slot in order:
        if not _crosses(place, flat[ring[slot]], starts, ends).any():
            return int(slot)
    return int(order[0])


def _crosses(one: Float64Array, two: Float64Array, starts: Float64Array, ends: Float64Array) -> BoolArray:
    """Return an (E,) mask of the edges that a line crosses, other than at its ends."""
    sides = _side(one, two, starts) * _side(one, two, ends)
    across = _side(starts, ends, one) * _side(starts, ends, two)
    return np.asarray((sides < 0) & (across < 0))


def _side(one: Float64Array, two: Float64Array, points: Float64Array) -> Float64Array:
    edge, to = two - one, points - one
    return np.asarray(edge[..., 0] * to[..., 1] - edge[..., 1] * to[..., 0])


def _area(ring: Float64Array) -> float:
    following = np.roll(ring, -1, axis=0)
    return float((ring[:, 0] * following[:, 1] - ring[:, 1] * following[:, 0]).sum())
