"""Compiled loops of the measures: sample points of triangles, which of them are seen, and connected triangles.

Shapes: faces (F, 3) int32; pixels (V, 3) float64 = x right, y down in pixels, depth away from the eye; samples are the
centers of congruent parts of triangles, (S, 3) float64, with the face and the area of each.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from helix4d.render.depth_kernels import barycentrics


@numba.njit(cache=True, nogil=True)
def see(  # type: ignore[no-untyped-def]
    pixels,
    faces,
    points,  # (S, 3) float64: samples as x, y, depth
    owners,  # (S,) int32: their faces
    winner,  # (H, W) int32 from `draw_faces`
    tolerance,  # depth by which a sample may lie behind what is in front of it
):
    """Return (S,) bool: the samples that are visible to the eye.

    The nearest face of a sample's pixel hides the sample if the face's plane, evaluated at the sample, is nearer. This
    separates walls that are less than a pixel apart. A sample just outside an outline (its pixel is empty, but a
    neighboring one is not) counts as hidden in this direction.
    """
    height, width = winner.shape
    seen = np.empty(len(points), np.bool_)
    for s in range(len(points)):
        px, py, z = points[s, 0], points[s, 1], points[s, 2]
        x = min(max(math.floor(px), 0), width - 1)
        y = min(max(math.floor(py), 0), height - 1)
        face = winner[y, x]
        if face < 0:
            seen[s] = _is_alone(winner, x, y, owners[s])
        elif face == owners[s]:
            seen[s] = True
        else:
            seen[s] = z <= _plane_depth(pixels, faces, face, px, py) + tolerance
    return seen


@numba.njit(cache=True, nogil=True)
def _is_alone(winner, x, y, owner):  # type: ignore[no-untyped-def]
    for dy in range(-1, 2):
        for dx in range(-1, 2):
            if 0 <= y + dy < winner.shape[0] and 0 <= x + dx < winner.shape[1]:
                other = winner[y + dy, x + dx]
                if other >= 0 and other != owner:
                    return False
    return True


@numba.njit(cache=True, nogil=True)
def _plane_depth(pixels, faces, face, px, py):  # type: ignore[no-untyped-def]
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    ax, ay, bx, by, cx, cy = pixels[i, 0], pixels[i, 1], pixels[j, 0], pixels[j, 1], pixels[k, 0], pixels[k, 1]
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    u, v, w = barycentrics(px, py, ax, ay, bx, by, cx, cy, area)
    za, zb, zc = pixels[i, 2], pixels[j, 2], pixels[k, 2]
    # Beyond the face's own depths the plane is no surface.
    return min(max(u * za + v * zb + w * zc, min(za, zb, zc)), max(za, zb, zc))


@numba.njit(cache=True, nogil=True)
def count_samples(triangles, spacing, most):  # type: ignore[no-untyped-def]
    """Return the number of parts per side of each triangle (F, 3, 3), such that none is longer than `spacing`."""
    parts = np.zeros(len(triangles), np.int64)
    for face in range(len(triangles)):
        longest = 0.0
        for corner in range(3):
            length = 0.0
            for axis in range(3):
                length += (triangles[face, corner, axis] - triangles[face, (corner + 1) % 3, axis]) ** 2
            longest = max(longest, length)
        parts[face] = min(max(math.ceil(math.sqrt(longest) / spacing), 1), most)
    return parts


@numba.njit(cache=True, nogil=True)
def sample_points(triangles, parts):  # type: ignore[no-untyped-def]
    """Return the centers (S, 3) float64 of the parts² congruent parts of each triangle, and their faces (S,) int32."""
    total = 0
    for face in range(len(parts)):
        total += parts[face] * parts[face]
    points = np.empty((total, 3), np.float64)
    owners = np.empty(total, np.int32)
    s = 0
    for face in range(len(triangles)):
        n = parts[face]
        for row in range(n):
            for column in range(2 * (n - row) - 1):
                # Parts in even columns are oriented like the triangle, those in odd columns are inverted.
                third = 1.0 / 3.0 if column % 2 == 0 else 2.0 / 3.0
                u = (row + third) / n
                v = (column // 2 + third) / n
                for axis in range(3):
                    points[s, axis] = (
                        triangles[face, 0, axis] * (1.0 - u - v)
                        + triangles[face, 1, axis] * u
                        + triangles[face, 2, axis] * v
                    )
                owners[s] = face
                s += 1
    return points, owners


@numba.njit(cache=True, nogil=True)
def connect(faces, count):  # type: ignore[no-untyped-def]
    """Return (F,) int64: a number for each of (F, 3) faces over `count` vertices, equal if vertices connect them."""
    parents = np.arange(count)
    for face in range(len(faces)):
        for corner in range(1, 3):
            one, other = _root(parents, faces[face, 0]), _root(parents, faces[face, corner])
            parents[max(one, other)] = min(one, other)
    labels = np.empty(len(faces), np.int64)
    for face in range(len(faces)):
        labels[face] = _root(parents, faces[face, 0])
    return labels


@numba.njit(cache=True, nogil=True)
def _root(parents, vertex):  # type: ignore[no-untyped-def]
    while parents[vertex] != vertex:
        parents[vertex] = parents[parents[vertex]]
        vertex = parents[vertex]
    return vertex
