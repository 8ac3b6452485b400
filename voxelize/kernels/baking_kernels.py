"""Texels of an unwrapped mesh: the surface point of each, and the attributes of the voxels around it."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import njit

MARGIN = 2.0
"""Texels around a chart that are filled from its edge."""
REACH = 8
"""Largest distance of a point from the nearest voxel, in voxels per axis: closed holes have no voxels of their own."""


@njit(cache=True, error_model="numpy", nogil=True)
def rasterize_positions(uvs, vertices, faces, size, positions, distances):
    """The nearest surface point for every texel within MARGIN texels of a triangle.

    So no triangle is too small for a texel, and filtering across a chart's edge reads values from the edge.
    uvs (V, 2) in [0, 1], v down as in glTF; vertices (V, 3); faces (F, 3); in and out: positions (size, size, 3)
    float32, row = v, column = u, and distances (size, size) float32, initially infinite.
    """
    x, y = np.empty(3), np.empty(3)
    weights, best = np.empty(3), np.empty(3)
    for f in range(len(faces)):
        for corner in range(3):
            x[corner] = uvs[faces[f, corner], 0] * size - 0.5
            y[corner] = uvs[faces[f, corner], 1] * size - 0.5
        area = (x[1] - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (y[1] - y[0])
        left = max(int(np.ceil(x.min() - MARGIN)), 0)
        right = min(int(np.floor(x.max() + MARGIN)), size - 1)
        top = max(int(np.ceil(y.min() - MARGIN)), 0)
        bottom = min(int(np.floor(y.max() + MARGIN)), size - 1)
        for row in range(top, bottom + 1):
            for column in range(left, right + 1):
                inside = area != 0.0
                if inside:
                    weights[1] = ((column - x[0]) * (y[2] - y[0]) - (x[2] - x[0]) * (row - y[0])) / area
                    weights[2] = ((x[1] - x[0]) * (row - y[0]) - (column - x[0]) * (y[1] - y[0])) / area
                    weights[0] = 1.0 - weights[1] - weights[2]
                    inside = weights[0] >= 0.0 and weights[1] >= 0.0 and weights[2] >= 0.0
                distance = 0.0
                if not inside:
                    distance = np.inf
                    for corner in range(3):
                        a, b = corner, (corner + 1) % 3
                        ex, ey = x[b] - x[a], y[b] - y[a]
                        length = ex * ex + ey * ey
                        s = 0.0
                        if length > 0.0:
                            s = min(max(((column - x[a]) * ex + (row - y[a]) * ey) / length, 0.0), 1.0)
                        dx, dy = column - (x[a] + s * ex), row - (y[a] + s * ey)
                        d = np.sqrt(dx * dx + dy * dy)
                        if d < distance:
                            distance = d
                            best[:] = 0.0
                            best[a], best[b] = 1.0 - s, s
                    weights[:] = best
                if distance <= MARGIN and distance < distances[row, column]:
                    distances[row, column] = distance
                    for axis in range(3):
                        total = 0.0
                        for corner in range(3):
                            total += weights[corner] * vertices[faces[f, corner], axis]
                        positions[row, column, axis] = total


@njit(cache=True, error_model="numpy", nogil=True)
def sample_voxels(points, codes, table, resolution, attributes, out):
    """Attributes at points: trilinear between existing voxels around a point, else those of the nearest within REACH.

    points (P, 3) in [-0.5, 0.5]; codes (N,) ascending Morton codes; table (3, side) from `spread_table`; attributes
    (N, C) float32; out (P, C) float32. Returns the number of points without a voxel within REACH.
    """
    lost = 0
    channels = attributes.shape[1]
    base = np.empty(3, np.int64)
    fraction = np.empty(3)
    place = np.empty(3, np.int64)
    for p in range(len(points)):
        for axis in range(3):
            g = (points[p, axis] + 0.5) * resolution - 0.5
            base[axis] = int(np.floor(g))
            fraction[axis] = g - base[axis]
        total = 0.0
        for channel in range(channels):
            out[p, channel] = 0.0
        for corner in range(8):
            weight = 1.0
            for axis in range(3):
                upper = (corner >> axis) & 1
                place[axis] = base[axis] + upper
                weight *= fraction[axis] if upper else 1.0 - fraction[axis]
            voxel = _find(codes, table, resolution, place)
            if voxel >= 0 and weight > 0.0:
                total += weight
                for channel in range(channels):
                    out[p, channel] += weight * attributes[voxel, channel]
        if total > 1e-6:
            for channel in range(channels):
                out[p, channel] /= total
            continue
        nearest, best = -1, np.inf
        for reach in range(1, REACH + 1):
            side = 2 * reach + 1
            for step in range(side**3):
                distance = 0.0
                for axis in range(3):
                    offset = step // side**axis % side - reach
                    place[axis] = int(np.floor((points[p, axis] + 0.5) * resolution)) + offset
                    distance += (place[axis] + 0.5 - (points[p, axis] + 0.5) * resolution) ** 2
                if distance < best:
                    voxel = _find(codes, table, resolution, place)
                    if voxel >= 0:
                        nearest, best = voxel, distance
            if nearest >= 0:
                break
        if nearest < 0:
            lost += 1
            continue
        for channel in range(channels):
            out[p, channel] = attributes[nearest, channel]
    return lost


@njit(cache=True, error_model="numpy", nogil=True)
def _find(codes, table, resolution, place):
    """Index of the voxel at a place, or -1."""
    for axis in range(3):
        if place[axis] < 0 or place[axis] >= resolution:
            return -1
    code = table[0, place[0]] | table[1, place[1]] | table[2, place[2]]
    low, high = 0, len(codes)
    while low < high:
        middle = (low + high) // 2
        if codes[middle] < code:
            low = middle + 1
        else:
            high = middle
    if low < len(codes) and codes[low] == code:
        return low
    return -1
