"""The nearest point of a triangle mesh, found through a grid of cells that lists the triangles in each."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import njit


@njit(cache=True, error_model="numpy", nogil=True)
def list_cells(vertices, faces, low, cell, side, starts, members):
    """Triangles whose bounding box overlaps each cell.

    vertices (V, 3); faces (F, 3); low (3,) corner of the grid; cell: side of a cell; side: cells per axis. Called
    twice: with an empty `members` it counts into starts (side^3 + 1,) int64, which the caller turns into offsets; then
    it fills members int32 and moves each start to the next cell's.
    """
    first, last = np.empty(3, np.int64), np.empty(3, np.int64)
    for f in range(len(faces)):
        for axis in range(3):
            a, b, c = vertices[faces[f, 0], axis], vertices[faces[f, 1], axis], vertices[faces[f, 2], axis]
            first[axis] = min(max(int(np.floor((min(a, b, c) - low[axis]) / cell)), 0), side - 1)
            last[axis] = min(max(int(np.floor((max(a, b, c) - low[axis]) / cell)), 0), side - 1)
        for i in range(first[0], last[0] + 1):
            for j in range(first[1], last[1] + 1):
                for k in range(first[2], last[2] + 1):
                    place = (i * side + j) * side + k
                    if len(members):
                        members[starts[place]] = f
                    starts[place] += 1


@njit(cache=True, error_model="numpy", nogil=True)
def nearest_on_surface(points, vertices, faces, low, cell, side, starts, members, nearest, owner):
    """Nearest surface point of every point: nearest (P, 3) float64 and owner (P,) int64, the triangle that has it.

    Cells are visited in rings around the point's own. Ring r is at least as far away as the walls of its own cell, plus
    r - 1 cells; this is negative for points outside of the grid, whose own cell is the nearest one.
    """
    own = np.empty(3, np.int64)
    place = np.empty(3, np.int64)
    p, found = np.empty(3), np.empty(3)
    for n in range(len(points)):
        for axis in range(3):
            p[axis] = points[n, axis]
            own[axis] = min(max(int(np.floor((p[axis] - low[axis]) / cell)), 0), side - 1)
        wall = np.inf
        for axis in range(3):
            start = low[axis] + own[axis] * cell
            wall = min(wall, p[axis] - start, start + cell - p[axis])
        best = np.inf
        for ring in range(side):
            reach = max(wall + (ring - 1) * cell, 0.0)
            if ring > 0 and best <= reach * reach:
                break
            for i in range(-ring, ring + 1):
                for j in range(-ring, ring + 1):
                    edge = abs(i) == ring or abs(j) == ring
                    step = 1 if edge or ring == 0 else 2 * ring
                    for k in range(-ring, ring + 1, step):
                        place[0], place[1], place[2] = own[0] + i, own[1] + j, own[2] + k
                        away = 0.0
                        inside = True
                        for axis in range(3):
                            inside = inside and 0 <= place[axis] < side
                            start = low[axis] + place[axis] * cell
                            gap = max(start - p[axis], p[axis] - start - cell, 0.0)
                            away += gap * gap
                        if not inside or (away >= best and ring > 0):
                            continue
                        index = (place[0] * side + place[1]) * side + place[2]
                        for m in range(starts[index], starts[index + 1]):
                            f = members[m]
                            distance = _nearest_on_triangle(
                                p, vertices[faces[f, 0]], vertices[faces[f, 1]], vertices[faces[f, 2]], found
                            )
                            if distance < best:
                                best = distance
                                owner[n] = f
                                nearest[n] = found


@njit(cache=True, error_model="numpy", nogil=True)
def _nearest_on_triangle(p, a, b, c, out):
    """Nearest point of triangle abc to p, by Voronoi regions (Ericson, Real-Time Collision Detection, section 5.1.5).

    Writes it to out (3,) and returns the squared distance.
    """
    d1 = d2 = d3 = d4 = d5 = d6 = 0.0
    for axis in range(3):
        ab, ac = b[axis] - a[axis], c[axis] - a[axis]
        d1 += ab * (p[axis] - a[axis])
        d2 += ac * (p[axis] - a[axis])
        d3 += ab * (p[axis] - b[axis])
        d4 += ac * (p[axis] - b[axis])
        d5 += ab * (p[axis] - c[axis])
        d6 += ac * (p[axis] - c[axis])
    vc, vb, va = d1 * d4 - d3 * d2, d5 * d2 - d1 * d6, d3 * d6 - d5 * d4
    v = w = 0.0  # p' = a + v (b - a) + w (c - a)
    if d1 <= 0.0 and d2 <= 0.0:
        v, w = 0.0, 0.0
    elif d3 >= 0.0 and d4 <= d3:
        v, w = 1.0, 0.0
    elif d6 >= 0.0 and d5 <= d6:
        v, w = 0.0, 1.0
    elif vc <= 0.0 and d1 >= 0.0 and d3 <= 0.0:
        v, w = d1 / (d1 - d3), 0.0
    elif vb <= 0.0 and d2 >= 0.0 and d6 <= 0.0:
        v, w = 0.0, d2 / (d2 - d6)
    elif va <= 0.0 and d4 - d3 >= 0.0 and d5 - d6 >= 0.0:
        w = (d4 - d3) / ((d4 - d3) + (d5 - d6))
        v = 1.0 - w
    else:
        total = va + vb + vc
        if total > 0.0:
            v, w = vb / total, vc / total
    distance = 0.0
    for axis in range(3):
        out[axis] = a[axis] + v * (b[axis] - a[axis]) + w * (c[axis] - a[axis])
        distance += (p[axis] - out[axis]) ** 2
    return distance


@njit(cache=True, error_model="numpy", nogil=True)
def smooth_over_edges(values, edges, rounds, out):
    """Average each vertex's value with the mean of its neighbors', `rounds` times: values and out (V, 3), edges (E, 2).

    A vertex without neighbors keeps its value. `values` is overwritten.
    """
    degree = np.zeros(len(values))
    for e in range(len(edges)):
        degree[edges[e, 0]] += 1.0
        degree[edges[e, 1]] += 1.0
    for _ in range(rounds):
        out[:] = 0.0
        for e in range(len(edges)):
            for axis in range(3):
                out[edges[e, 0], axis] += values[edges[e, 1], axis]
                out[edges[e, 1], axis] += values[edges[e, 0], axis]
        for v in range(len(values)):
            for axis in range(3):
                if degree[v] > 0.0:
                    values[v, axis] = 0.5 * (values[v, axis] + out[v, axis] / degree[v])
    out[:] = values
