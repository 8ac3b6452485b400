"""Compiled loops of `helix4d.render.cycles.coplanar`."""

from __future__ import annotations

import numba
import numpy as np

_ON_PLANE = 2e-6
"""Distance within which a point lies on a face, in units of the clip's cube."""
_PARALLEL = 0.9999
"""Least absolute cosine between the normals of faces in one plane."""
_INSIDE = 1e-3
"""Least barycentric coordinate: faces that share an edge do not overlap."""


@numba.njit(cache=True, nogil=True)
def find_pairs(points, owners, triangles, normals, first, last, entries):  # type: ignore[no-untyped-def]
    """(P, 2) int32 pairs of faces where a point of one lies on the other, smaller index first; pairs may repeat.

    points (S, 3) float64 belong to the faces owners (S,); triangles (F, 3, 3) float64; normals (F, 3) float64, unit;
    the candidates for point s are entries[first[s]:last[s]].
    """
    pairs = np.empty((16, 2), np.int32)
    found = 0
    for s in range(len(points)):
        face = owners[s]
        for entry in range(first[s], last[s]):
            other = entries[entry]
            if other == face or not _lies_on(points, s, normals, face, triangles, other):
                continue
            if found == len(pairs):
                grown = np.empty((2 * found, 2), np.int32)
                grown[:found] = pairs
                pairs = grown
            pairs[found, 0], pairs[found, 1] = min(face, other), max(face, other)
            found += 1
    return pairs[:found]


@numba.njit(cache=True, nogil=True)
def _lies_on(points, s, normals, face, triangles, other):  # type: ignore[no-untyped-def]
    nx, ny, nz = normals[other, 0], normals[other, 1], normals[other, 2]
    if abs(nx * normals[face, 0] + ny * normals[face, 1] + nz * normals[face, 2]) < _PARALLEL:
        return False
    ax, ay, az = triangles[other, 0, 0], triangles[other, 0, 1], triangles[other, 0, 2]
    px, py, pz = points[s, 0] - ax, points[s, 1] - ay, points[s, 2] - az
    if abs(px * nx + py * ny + pz * nz) > _ON_PLANE:
        return False
    ux, uy, uz = triangles[other, 1, 0] - ax, triangles[other, 1, 1] - ay, triangles[other, 1, 2] - az
    vx, vy, vz = triangles[other, 2, 0] - ax, triangles[other, 2, 1] - ay, triangles[other, 2, 2] - az
    uu, uv, vv = ux * ux + uy * uy + uz * uz, ux * vx + uy * vy + uz * vz, vx * vx + vy * vy + vz * vz
    pu, pv = px * ux + py * uy + pz * uz, px * vx + py * vy + pz * vz
    area = uu * vv - uv * uv
    if not area > 0.0:
        return False
    b, c = (vv * pu - uv * pv) / area, (uu * pv - uv * pu) / area
    return b > _INSIDE and c > _INSIDE and b + c < 1.0 - _INSIDE


@numba.njit(cache=True, nogil=True)
def color_levels(pairs, count, most):  # type: ignore[no-untyped-def]
    """(F,) int32: the least level below `most` that no overlapping face with a smaller index has.

    pairs (P, 2) int32 are sorted by the second, larger index.
    """
    levels = np.zeros(count, np.int32)
    taken = np.zeros(most, np.bool_)
    start = 0
    while start < len(pairs):
        face, end = pairs[start, 1], start
        taken[:] = False
        while end < len(pairs) and pairs[end, 1] == face:
            taken[levels[pairs[end, 0]]] = True
            end += 1
        level = 0
        while level + 1 < most and taken[level]:
            level += 1
        levels[face] = level
        start = end
    return levels
