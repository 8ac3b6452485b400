"""Compiled loops of the measures: sample points of triangles, which of them are seen, and connected triangles.

Shapes: vertices (V, 3) float32; faces (F, 3) int32; pixels (V, 3) float64 = x right, y down in pixels, depth away from
the eye; samples are the centers of congruent parts of triangles.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from helix4d.render.depth_kernels import barycentrics

_NARROW = 1e-3
"""Doubled area in pixels below which rounding makes the plane of a triangle uncertain."""
_ROUNDING = 1e-5
"""Upper bound of the rounding errors of depths in the unit cube, including those of single-precision bounds."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def project(vertices, axes, size, extent, pixels):  # type: ignore[no-untyped-def]
    """Fill (V, 3) float64 `pixels` with (V, 3) points, seen along `axes` in an image of `size`² pixels.

    `extent` is the length that fills the image.
    """
    for v in range(len(vertices)):
        x, y, z = vertices[v, 0], vertices[v, 1], vertices[v, 2]
        pixels[v, 0], pixels[v, 1], pixels[v, 2] = _projected(x, y, z, axes, size, extent)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _projected(x, y, z, axes, size, extent):  # type: ignore[no-untyped-def]
    """Return x to the right and y down in pixels, and depth."""
    # Not a matrix product: the rounding of BLAS depends on its number of threads.
    right = x * axes[0, 0] + y * axes[0, 1] + z * axes[0, 2]
    down = x * axes[1, 0] + y * axes[1, 1] + z * axes[1, 2]
    away = x * axes[2, 0] + y * axes[2, 1] + z * axes[2, 2]
    return (right / extent + 0.5) * size, (down / extent + 0.5) * size, away


@numba.njit(cache=True, nogil=True, error_model="numpy")
def visible_samples(  # type: ignore[no-untyped-def]
    vertices,  # (V, 3) float32
    faces,
    parts,  # (F,) int64 from `count_samples`
    directions,  # (D, 3, 3) float64: right, down and away from the eye, of each direction
    winners,  # (D, H, H) int32 from `draw_faces`: the front of each direction
    extent,  # length that fills the image
    tolerance,  # depth by which a sample may lie behind what is in front of it
):
    """Return (S,) bool: the samples that are visible from any direction.

    The samples are made one by one, in the order of `sample_points`, because all of them at once may need more memory
    than the mesh.

    The nearest face of a sample's pixel hides the sample if the face's plane, evaluated at the sample, is nearer. This
    separates walls that are less than a pixel apart. A sample just outside an outline (its pixel is empty, but a
    neighboring one is not) counts as hidden in this direction.
    """
    seen = np.empty(_total(parts), np.bool_)
    size = winners.shape[1]
    bounds = np.full(winners.shape, np.nan, np.float32)  # from `_farthest`, where a sample needed it
    s = 0
    for face in range(len(faces)):
        n = parts[face]
        for row in range(n):
            for column in range(2 * (n - row) - 1):
                x, y, z = _sample(vertices, faces, face, row, column, n)
                seen[s] = False
                for d in range(len(directions)):
                    px, py, depth = _projected(x, y, z, directions[d], size, extent)
                    column_of, row_of = _inside(px, size), _inside(py, size)
                    # Most hidden samples are far behind the front: comparing bounds is much cheaper than planes.
                    if depth > bounds[d, row_of, column_of] + tolerance:
                        continue
                    front = winners[d, row_of, column_of]
                    if front < 0:
                        seen[s] = _is_alone(winners[d], column_of, row_of, face)
                    elif front == face:
                        seen[s] = True
                    else:
                        corners = _corners(vertices, faces, front, directions[d], size, extent)
                        seen[s] = depth <= _plane_depth(px, py, *corners) + tolerance
                        if not seen[s] and np.isnan(bounds[d, row_of, column_of]):
                            bounds[d, row_of, column_of] = _farthest(column_of, row_of, *corners)
                    if seen[s]:
                        break
                s += 1
    return seen


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _inside(coordinate, size):  # type: ignore[no-untyped-def]
    return min(max(math.floor(coordinate), 0), size - 1)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _corners(vertices, faces, face, axes, size, extent):  # type: ignore[no-untyped-def]
    """Return the three corners of a face as x, y, depth."""
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    return (
        _projected(vertices[i, 0], vertices[i, 1], vertices[i, 2], axes, size, extent),
        _projected(vertices[j, 0], vertices[j, 1], vertices[j, 2], axes, size, extent),
        _projected(vertices[k, 0], vertices[k, 1], vertices[k, 2], axes, size, extent),
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _plane_depth(px, py, a, b, c):  # type: ignore[no-untyped-def]
    (ax, ay, za), (bx, by, zb), (cx, cy, zc) = a, b, c
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
    u, v, w = barycentrics(px, py, ax, ay, bx, by, cx, cy, area)
    # Beyond the face's own depths the plane is no surface.
    return min(max(u * za + v * zb + w * zc, min(za, zb, zc)), max(za, zb, zc))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _farthest(x, y, a, b, c):  # type: ignore[no-untyped-def]
    """Return a bound on what `_plane_depth` returns within a pixel, rounding included."""
    area = (b[0] - a[0]) * (c[1] - a[1]) - (b[1] - a[1]) * (c[0] - a[0])
    largest = max(a[2], b[2], c[2])
    if abs(area) >= _NARROW:
        at_corners = max(
            max(_plane_depth(x, y, a, b, c), _plane_depth(x + 1.0, y, a, b, c)),
            max(_plane_depth(x, y + 1.0, a, b, c), _plane_depth(x + 1.0, y + 1.0, a, b, c)),
        )
        largest = min(largest, at_corners)
    return largest + _ROUNDING


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
def count_samples(vertices, faces, spacing, most):  # type: ignore[no-untyped-def]
    """Return (F,) int64: the parts per side of each triangle over (V, 3) vertices, none longer than `spacing`."""
    parts = np.zeros(len(faces), np.int64)
    for face in range(len(faces)):
        longest = 0.0
        for corner in range(3):
            one, other = faces[face, corner], faces[face, (corner + 1) % 3]
            length = 0.0
            for axis in range(3):
                length += (np.float64(vertices[one, axis]) - np.float64(vertices[other, axis])) ** 2
            longest = max(longest, length)
        parts[face] = min(max(math.ceil(math.sqrt(longest) / spacing), 1), most)
    return parts


@numba.njit(cache=True, nogil=True)
def sample_points(vertices, faces, parts):  # type: ignore[no-untyped-def]
    """Return the centers (S, 3) float64 of the parts² congruent parts of each triangle, and their faces (S,) int32."""
    total = _total(parts)
    points = np.empty((total, 3), np.float64)
    owners = np.empty(total, np.int32)
    s = 0
    for face in range(len(faces)):
        n = parts[face]
        for row in range(n):
            for column in range(2 * (n - row) - 1):
                points[s, 0], points[s, 1], points[s, 2] = _sample(vertices, faces, face, row, column, n)
                owners[s] = face
                s += 1
    return points, owners


@numba.njit(cache=True, nogil=True)
def fill_cells(vertices, faces, parts, cells):  # type: ignore[no-untyped-def]
    """Set the (C, C, C) bool cells of the unit cube that contain a sample."""
    for face in range(len(faces)):
        n = parts[face]
        for row in range(n):
            for column in range(2 * (n - row) - 1):
                cells[_cell(_sample(vertices, faces, face, row, column, n), len(cells))] = True


@numba.njit(cache=True, nogil=True)
def samples_in_cells(vertices, faces, parts, cells):  # type: ignore[no-untyped-def]
    """Return (S,) bool: the samples inside set cells of the (C, C, C) bool cells of the unit cube."""
    inside = np.empty(_total(parts), np.bool_)
    s = 0
    for face in range(len(faces)):
        n = parts[face]
        for row in range(n):
            for column in range(2 * (n - row) - 1):
                inside[s] = cells[_cell(_sample(vertices, faces, face, row, column, n), len(cells))]
                s += 1
    return inside


@numba.njit(cache=True, nogil=True)
def _cell(point, count):  # type: ignore[no-untyped-def]
    x, y, z = point
    return _slot(x, count), _slot(y, count), _slot(z, count)


@numba.njit(cache=True, nogil=True)
def _slot(coordinate, count):  # type: ignore[no-untyped-def]
    return min(max(int((coordinate + 0.5) * count), 0), count - 1)


@numba.njit(cache=True, nogil=True)
def _total(parts):  # type: ignore[no-untyped-def]
    total = 0
    for face in range(len(parts)):
        total += parts[face] * parts[face]
    return total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _sample(vertices, faces, face, row, column, n):  # type: ignore[no-untyped-def]
    """Return the center of a part of a triangle that is divided into n² parts."""
    # Parts in even columns are oriented like the triangle, those in odd columns are inverted.
    third = 1.0 / 3.0 if column % 2 == 0 else 2.0 / 3.0
    u = (row + third) / n
    v = (column // 2 + third) / n
    w = 1.0 - u - v
    i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
    x = vertices[i, 0] * w + vertices[j, 0] * u + vertices[k, 0] * v
    y = vertices[i, 1] * w + vertices[j, 1] * u + vertices[k, 1] * v
    z = vertices[i, 2] * w + vertices[j, 2] * u + vertices[k, 2] * v
    return x, y, z


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


@numba.njit(cache=True, nogil=True)
def place_of_share(order, weights, total, share):  # type: ignore[no-untyped-def]
    """Return the first place in an order of corners at which their weights add up to a share of the total.

    Args:
        order: (3 F,) int64 corners; corner c belongs to triangle c // 3.
        weights: (F,) float64 weight of each corner of a triangle.
        total: sum of the weights of all corners.
        share: from 0 to 1.
    """
    added = 0.0
    for place in range(len(order)):
        added += weights[order[place] // 3]
        if added / total >= share:
            return place
    return len(order) - 1
