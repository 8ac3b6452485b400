"""A plain dual-grid converter: a dictionary of voxels and scalar loops, compiled. The baseline of voxelize.py.

It follows the official C++ step by step (one hash lookup per voxel at each crossing and per overlapped box, 4x4
quadrics, every candidate of the constrained minimum), so its time stands for the official one on the same machine at
the same moment. For that reason it shares no code with `helix4d.voxelize`. The dictionary is a chained hash table like
C++'s unordered_map; numba's typed dictionary would add a third to the time. Geometry only.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit


def reference_dual_grid(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (N,) int64 (x R^2 + y R + z) and dual vertices (N, 3) float64 of a mesh in [-0.5, 0.5]^3."""
    return _convert((vertices + np.float32(0.5)).astype(np.float64) * resolution, faces, resolution)


@njit(cache=True, error_model="numpy")
def _convert(vertices, faces, resolution):
    capacity = 1 << 16
    count = 0
    buckets = np.full(capacity, -1)  # first slot of a bucket
    links = np.empty(capacity, np.int64)  # next slot of the same bucket, -1 ends
    keys = np.empty(capacity, np.int64)
    quadrics = np.zeros((capacity, 4, 4))
    means = np.zeros((capacity, 4))
    normal = np.empty(4)
    voxel = np.empty(3, np.int64)
    low, high = np.empty(3, np.int64), np.empty(3, np.int64)
    t = np.empty((3, 3))
    for f in range(len(faces)):
        _corners(vertices, faces, f, t)
        _plane(t, normal)
        for a in range(3):
            b, c = (a + 1) % 3, (a + 2) % 3
            i0, i1, i2 = 0, 1, 2
            if t[i1, c] < t[i0, c]:
                i0, i1 = i1, i0
            if t[i2, c] < t[i1, c]:
                i1, i2 = i2, i1
                if t[i1, c] < t[i0, c]:
                    i0, i1 = i1, i0
            t0, t1, t2 = t[i0], t[i1], t[i2]
            first = min(max(int(t0[c]), 0), resolution - 1)
            middle = min(max(int(t1[c]), 0), resolution - 1)
            last = min(max(int(t2[c]), 0), resolution - 1)
            for row in range(first, last):
                y = row + 1.0
                if row < middle:
                    pb, pa = _lerp(t0, t1, y, a, b, c)
                    qb, qa = _lerp(t0, t2, y, a, b, c)
                else:
                    pb, pa = _lerp(t2, t1, y, a, b, c)
                    qb, qa = _lerp(t2, t0, y, a, b, c)
                if pb > qb:
                    pb, pa, qb, qa = qb, qa, pb, pa
                begin = min(max(int(pb), 0), resolution - 1)
                end = min(max(int(qb), 0), resolution - 1)
                for column in range(begin, end):
                    x = column + 1.0
                    s = (x - pb) / (qb - pb)
                    z = (1.0 - s) * pa + s * qa
                    k = math.floor(z)
                    if k < 0 or k >= resolution:
                        continue
                    for dj in range(2):
                        for di in range(2):
                            voxel[a], voxel[b], voxel[c] = k, column + dj, row + di
                            key = (voxel[0] * resolution + voxel[1]) * resolution + voxel[2]
                            slot = _find(buckets, links, keys, key)
                            if slot < 0:
                                if count == capacity:
                                    quadrics = np.concatenate((quadrics, np.zeros((capacity, 4, 4))))
                                    means = np.concatenate((means, np.zeros((capacity, 4))))
                                    keys = np.concatenate((keys, np.empty(capacity, np.int64)))
                                    capacity *= 2
                                    buckets, links = _rehash(keys, count, capacity)
                                slot = count
                                count += 1
                                _insert(buckets, links, keys, key, slot)
                            means[slot, a] += z
                            means[slot, b] += x
                            means[slot, c] += y
                            means[slot, 3] += 1.0
                            for i in range(4):
                                for j in range(4):
                                    quadrics[slot, i, j] += normal[i] * normal[j]
    for f in range(len(faces)):
        _corners(vertices, faces, f, t)
        _plane(t, normal)
        for axis in range(3):
            low[axis] = int(min(t[0, axis], t[1, axis], t[2, axis]))
            high[axis] = min(int(max(t[0, axis], t[1, axis], t[2, axis])), resolution - 1)
        for x in range(low[0], high[0] + 1):
            for y in range(low[1], high[1] + 1):
                for z in range(low[2], high[2] + 1):
                    key = (x * resolution + y) * resolution + z
                    slot = _find(buckets, links, keys, key)
                    if slot >= 0 and _overlaps(t, normal, x, y, z):
                        for i in range(4):
                            for j in range(4):
                                quadrics[slot, i, j] += normal[i] * normal[j]
    dual = np.empty((count, 3))
    corner, point, best = np.empty(3), np.empty(3), np.empty(3)
    work = np.empty((3, 3))
    for slot in range(count):
        key = keys[slot]
        corner[0], corner[1], corner[2] = key // resolution**2, key // resolution % resolution, key % resolution
        _free_minimum(quadrics[slot], means[slot], work, point)
        if not _inside(point, corner):
            _minimum(quadrics[slot], means[slot], corner, work, point, best)
            point[:] = best
        for axis in range(3):
            dual[slot, axis] = point[axis] - corner[axis]
    return keys[:count], dual


@njit(cache=True, error_model="numpy")
def _bucket(key, size):
    return (key * 0x9E3779B97F4A7C1 >> 20) & (size - 1)


@njit(cache=True, error_model="numpy")
def _find(buckets, links, keys, key):
    slot = buckets[_bucket(key, len(buckets))]
    while slot >= 0 and keys[slot] != key:
        slot = links[slot]
    return slot


@njit(cache=True, error_model="numpy")
def _insert(buckets, links, keys, key, slot):
    keys[slot] = key
    bucket = _bucket(key, len(buckets))
    links[slot] = buckets[bucket]
    buckets[bucket] = slot


@njit(cache=True, error_model="numpy")
def _rehash(keys, count, size):
    buckets, links = np.full(size, -1), np.empty(size, np.int64)
    for slot in range(count):
        _insert(buckets, links, keys, keys[slot], slot)
    return buckets, links


@njit(cache=True, error_model="numpy")
def _corners(vertices, faces, f, t):
    for corner in range(3):
        for axis in range(3):
            t[corner, axis] = vertices[faces[f, corner], axis]


@njit(cache=True, error_model="numpy")
def _plane(t, normal):
    ux, uy, uz = t[1, 0] - t[0, 0], t[1, 1] - t[0, 1], t[1, 2] - t[0, 2]
    vx, vy, vz = t[2, 0] - t[0, 0], t[2, 1] - t[0, 1], t[2, 2] - t[0, 2]
    normal[0], normal[1], normal[2] = uy * vz - uz * vy, uz * vx - ux * vz, ux * vy - uy * vx
    length = math.sqrt(normal[0] ** 2 + normal[1] ** 2 + normal[2] ** 2)
    if length > 0.0:
        for axis in range(3):
            normal[axis] /= length
    normal[3] = -(normal[0] * t[0, 0] + normal[1] * t[0, 1] + normal[2] * t[0, 2])


@njit(cache=True, error_model="numpy")
def _lerp(p, q, y, a, b, c):
    s = (y - p[c]) / (q[c] - p[c])
    return (1.0 - s) * p[b] + s * q[b], (1.0 - s) * p[a] + s * q[a]


@njit(cache=True, error_model="numpy")
def _overlaps(t, normal, x, y, z):
    distance = normal[0] * (x + 0.5) + normal[1] * (y + 0.5) + normal[2] * (z + 0.5) + normal[3]
    if abs(distance) > 0.5 * (abs(normal[0]) + abs(normal[1]) + abs(normal[2])):
        return False
    corner = (x, y, z)
    for a in range(3):
        b, c = (a + 1) % 3, (a + 2) % 3
        sign = 1.0 if normal[a] >= 0.0 else -1.0
        for k in range(3):
            m = (k + 1) % 3
            eb = -(t[m, c] - t[k, c]) * sign
            ec = (t[m, b] - t[k, b]) * sign
            inside = eb * (corner[b] - t[k, b]) + ec * (corner[c] - t[k, c]) + max(eb, 0.0) + max(ec, 0.0)
            if inside < 0.0:
                return False
    return True


@njit(cache=True, error_model="numpy")
def _free_minimum(quadric, mean, work, point):
    for i in range(3):
        point[i] = 0.01 * mean[i] - quadric[i, 3]
        for j in range(3):
            work[i, j] = quadric[i, j]
        work[i, i] += 0.01 * mean[3]
    _eliminate(work, point, 3)


@njit(cache=True, error_model="numpy")
def _inside(point, corner):
    inside = True
    for axis in range(3):
        inside = inside and corner[axis] <= point[axis] <= corner[axis] + 1.0
    return inside


@njit(cache=True, error_model="numpy")
def _minimum(quadric, mean, corner, small, right, best):
    """Write the best feasible point of 6 faces, 12 edges and 8 corners to `best`."""
    lowest = np.inf
    for fixed in range(26):
        # Base-3 digit of an axis: 0 lower bound, 1 upper bound, 2 free; 26, all free, was tried before.
        loose = 0
        x = (_bound(fixed % 3, corner[0]), _bound(fixed // 3 % 3, corner[1]), _bound(fixed // 9, corner[2]))
        free = (fixed % 3 == 2, fixed // 3 % 3 == 2, fixed // 9 == 2)
        for i in range(3):
            if free[i]:
                right[loose] = _right(quadric, mean, i)
                column = 0
                for j in range(3):
                    if free[j]:
                        small[loose, column] = _matrix(quadric, mean, i, j)
                        column += 1
                    else:
                        right[loose] -= _matrix(quadric, mean, i, j) * x[j]
                loose += 1
        _eliminate(small, right, loose)
        feasible = True
        loose = 0
        y0, y1, y2 = x
        if free[0]:
            y0 = right[loose]
            loose += 1
        if free[1]:
            y1 = right[loose]
            loose += 1
        if free[2]:
            y2 = right[loose]
        y = (y0, y1, y2)
        value = 0.0
        for i in range(3):
            feasible = feasible and corner[i] <= y[i] <= corner[i] + 1.0
            value -= 2.0 * _right(quadric, mean, i) * y[i]
            for j in range(3):
                value += y[i] * _matrix(quadric, mean, i, j) * y[j]
        if feasible and value < lowest:
            lowest = value
            best[0], best[1], best[2] = y


@njit(cache=True, error_model="numpy")
def _bound(digit, low):
    return low + 1.0 if digit == 1 else low


@njit(cache=True, error_model="numpy")
def _matrix(quadric, mean, i, j):
    return quadric[i, j] + (0.01 * mean[3] if i == j else 0.0)


@njit(cache=True, error_model="numpy")
def _right(quadric, mean, i):
    return 0.01 * mean[i] - quadric[i, 3]


@njit(cache=True, error_model="numpy")
def _eliminate(m, x, size):
    """Gaussian elimination with pivoting, in place."""
    for k in range(size):
        pivot = k
        for i in range(k + 1, size):
            if abs(m[i, k]) > abs(m[pivot, k]):
                pivot = i
        for j in range(size):
            m[k, j], m[pivot, j] = m[pivot, j], m[k, j]
        x[k], x[pivot] = x[pivot], x[k]
        for i in range(k + 1, size):
            s = m[i, k] / m[k, k]
            for j in range(k, size):
                m[i, j] -= s * m[k, j]
            x[i] -= s * x[k]
    for i in range(size - 1, -1, -1):
        for j in range(i + 1, size):
            x[i] -= m[i, j] * x[j]
        x[i] /= m[i, i]
