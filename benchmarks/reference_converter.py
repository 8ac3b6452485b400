"""A straightforward dual-grid converter: a dictionary of voxels, scalar loops, compiled.

It does what the official C++ does and the way it does it (one hash lookup for each voxel at each crossing and for each
overlapped box, 4x4 quadrics, every candidate of the constrained minimum tried), so its time stands for the official
one on the same machine in the same minute. It is written for that alone: geometry only.
"""

from __future__ import annotations

import math

import numpy as np
from numba import njit, types
from numba.typed import Dict


def reference_dual_grid(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> tuple[np.ndarray, np.ndarray]:
    """Keys (N,) int64 (x R^2 + y R + z) and dual vertices (N, 3) float64 of a mesh in [-0.5, 0.5]^3."""
    table = Dict.empty(types.int64, types.int64)
    return _convert((vertices + np.float32(0.5)).astype(np.float64) * resolution, faces, resolution, table)


@njit(cache=True, error_model="numpy")
def _convert(vertices, faces, resolution, table):
    capacity = 1 << 16
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
                            slot = table.setdefault(key, len(table))
                            if slot == capacity:
                                quadrics = np.concatenate((quadrics, np.zeros((capacity, 4, 4))))
                                means = np.concatenate((means, np.zeros((capacity, 4))))
                                capacity *= 2
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
                    slot = _slot(table, key)
                    if slot >= 0 and _overlaps(t, normal, x, y, z):
                        for i in range(4):
                            for j in range(4):
                                quadrics[slot, i, j] += normal[i] * normal[j]
    keys = np.empty(len(table), np.int64)
    dual = np.empty((len(table), 3))
    corner = np.empty(3)
    work, point = np.empty((3, 3)), np.empty(3)
    for key, slot in table.items():
        keys[slot] = key
        corner[0], corner[1], corner[2] = key // resolution**2, key // resolution % resolution, key % resolution
        _free_minimum(quadrics[slot], means[slot], work, point)
        if not _inside(point, corner):
            point[:] = _minimum(quadrics[slot], means[slot], corner)
        for axis in range(3):
            dual[slot, axis] = point[axis] - corner[axis]
    return keys, dual


@njit(cache=True, error_model="numpy")
def _slot(table, key):
    if key in table:
        return table[key]
    return -1


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
def _minimum(quadric, mean, corner):
    """The best feasible point of 6 faces, 12 edges and 8 corners."""
    a = quadric[:3, :3].copy()
    rhs = -quadric[:3, 3].copy()
    for k in range(3):
        a[k, k] += 0.01 * mean[3]
        rhs[k] += 0.01 * mean[k]
    best = np.inf
    found = corner.copy()
    for fixed in range(27):
        # Digit of an axis: 0 lower bound, 1 upper bound, 2 free.
        x = np.empty(3)
        loose = 0
        which = np.zeros(3, np.int64)
        digits = fixed
        for axis in range(3):
            digit = digits % 3
            digits //= 3
            if digit == 2:
                which[loose] = axis
                loose += 1
            else:
                x[axis] = corner[axis] + digit
        if loose == 3:
            continue
        if loose > 0:
            small = np.empty((loose, loose))
            right = np.empty(loose)
            for i in range(loose):
                right[i] = rhs[which[i]]
                for j in range(loose):
                    small[i, j] = a[which[i], which[j]]
                for axis in range(3):
                    held = True
                    for j in range(loose):
                        if which[j] == axis:
                            held = False
                    if held:
                        right[i] -= a[which[i], axis] * x[axis]
            part = _solved(small, right, loose)
            feasible = True
            for i in range(loose):
                x[which[i]] = part[i]
                if part[i] < corner[which[i]] or part[i] > corner[which[i]] + 1.0:
                    feasible = False
            if not feasible:
                continue
        value = 0.0
        for i in range(3):
            value -= 2.0 * rhs[i] * x[i]
            for j in range(3):
                value += x[i] * a[i, j] * x[j]
        if value < best:
            best = value
            found = x
    return found


@njit(cache=True, error_model="numpy")
def _solved(matrix, right, size):
    m, x = matrix.copy(), right.copy()
    _eliminate(m, x, size)
    return x


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
