"""Texels of an unwrapped mesh: where on the surface each one lies, and what the voxels around that place look like."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np
from numba import njit

REACH = 8
"""Voxels along an axis that a point may be away from the next one: filled holes have none of their own."""


@njit(cache=True, error_model="numpy", nogil=True)
def rasterize_positions(uvs, vertices, faces, size, positions, covered):
    """Surface point of every texel whose center lies in a triangle's UVs.

    uvs (V, 2) in [0, 1], v downwards as glTF has it; vertices (V, 3); faces (F, 3);
    positions (size, size, 3) float32 and covered (size, size) bool, written: row = v, column = u.
    """
    for f in range(len(faces)):
        a, b, c = faces[f, 0], faces[f, 1], faces[f, 2]
        ax, ay = uvs[a, 0] * size - 0.5, uvs[a, 1] * size - 0.5
        bx, by = uvs[b, 0] * size - 0.5, uvs[b, 1] * size - 0.5
        cx, cy = uvs[c, 0] * size - 0.5, uvs[c, 1] * size - 0.5
        area = (bx - ax) * (cy - ay) - (cx - ax) * (by - ay)
        if area == 0.0:
            continue
        left = max(int(np.ceil(min(ax, bx, cx))), 0)
        right = min(int(np.floor(max(ax, bx, cx))), size - 1)
        top = max(int(np.ceil(min(ay, by, cy))), 0)
        bottom = min(int(np.floor(max(ay, by, cy))), size - 1)
        for y in range(top, bottom + 1):
            for x in range(left, right + 1):
                wb = ((x - ax) * (cy - ay) - (cx - ax) * (y - ay)) / area
                wc = ((bx - ax) * (y - ay) - (x - ax) * (by - ay)) / area
                wa = 1.0 - wb - wc
                if wa < 0.0 or wb < 0.0 or wc < 0.0:
                    continue
                for axis in range(3):
                    positions[y, x, axis] = wa * vertices[a, axis] + wb * vertices[b, axis] + wc * vertices[c, axis]
                covered[y, x] = True


@njit(cache=True, error_model="numpy", nogil=True)
def sample_voxels(points, codes, table, resolution, attributes, out):
    """Attributes at points: trilinear between the voxel centers around each that exist, else those of the nearest
    voxel within REACH.

    points (P, 3) in [-0.5, 0.5]; codes (N,) ascending Morton codes; table (3, side) of `spread_table`;
    attributes (N, C) float32; out (P, C) float32, written. Returns how many points had no voxel near.
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
    """The voxel at a place, or -1."""
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
