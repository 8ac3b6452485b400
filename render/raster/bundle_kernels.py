"""Compiled loops of `helix4d.render.raster.bundles`.

Shapes: V vertices, F triangles, K points, D directions; side 0 is the front of a surface, 1 its back. The entry of a
side of a point is 2 * point + side.
"""

from __future__ import annotations

import math

import numba
import numpy as np

_MOST_HITS = 96
"""Most surfaces along one line; those beyond neither receive nor block light."""


@numba.njit(cache=True, nogil=True, error_model="numpy")
def trace(  # type: ignore[no-untyped-def]
    vertices,  # (V, 3) float64
    faces,  # (F, 3) int32
    opacity,  # (F,) float32 in [0, 1], negative for faces that are left out
    cuts,  # (F,) int32, see `Lattices`
    starts,  # (F,) int32
    places,  # (L,) int32
    points,  # K
    frames,  # (D, 3, 3) float64: axes right, up and direction
    shifts,  # (D, 2) float64 in [0, 1): offsets of the grids
    center,  # (3,) float64
    radius,  # of a sphere around everything
    side,  # lines per side of a grid
    tie,  # distance within which surfaces coincide
):
    """Trace a grid of parallel lines in every direction, and light along them in both senses.

    Returns:
        (2 K, 2) float32 weights of all lines and of the open ones, and N links: the receiving entries, the entries from
        which they receive, -1 for the sky, and 2 * direction + sense in which they look; each (N,) int32.
    """
    sums = np.zeros((2 * points, 2), np.float32)
    capacity, used = 1 << 16, 0
    receivers, sources = np.empty(capacity, np.int32), np.empty(capacity, np.int32)
    ways = np.empty(capacity, np.int32)
    heads = np.empty(side * side, np.int32)
    room = 1 << 14
    nexts, owners = np.empty(room, np.int32), np.empty(room, np.int32)
    hits = np.empty((room, 3), np.float32)  # depth, weights of corners 1 and 2
    seen = np.empty((len(vertices), 3), np.float64)
    order, key = np.empty(_MOST_HITS, np.int32), np.empty(_MOST_HITS, np.float64)
    front, solid = np.empty(_MOST_HITS, np.bool_), np.empty(_MOST_HITS, np.bool_)
    who, share = np.empty((_MOST_HITS, 3), np.int32), np.empty((_MOST_HITS, 3), np.float32)
    scale = 0.5 * side / radius
    for number in range(len(frames)):
        axes = frames[number]
        for i in range(len(vertices)):
            x, y, z = vertices[i, 0] - center[0], vertices[i, 1] - center[1], vertices[i, 2] - center[2]
            seen[i, 0] = (axes[0, 0] * x + axes[0, 1] * y + axes[0, 2] * z + radius) * scale + shifts[number, 0] - 0.5
            seen[i, 1] = (axes[1, 0] * x + axes[1, 1] * y + axes[1, 2] * z + radius) * scale + shifts[number, 1] - 0.5
            seen[i, 2] = axes[2, 0] * x + axes[2, 1] * y + axes[2, 2] * z
        heads[:] = -1
        count = 0
        for face in range(len(faces)):
            if opacity[face] < 0.0:
                continue
            i, j, k = faces[face, 0], faces[face, 1], faces[face, 2]
            ax, ay, bx, by, cx, cy = seen[i, 0], seen[i, 1], seen[j, 0], seen[j, 1], seen[k, 0], seen[k, 1]
            y0, y1 = max(math.ceil(min(ay, by, cy) - 0.5), 0), min(math.floor(max(ay, by, cy) - 0.5), side - 1)
            if y1 < y0:
                continue
            x0, x1 = max(math.ceil(min(ax, bx, cx) - 0.5), 0), min(math.floor(max(ax, bx, cx) - 0.5), side - 1)
            area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)
            if x1 < x0 or not abs(area) > 1e-12:
                continue
            for y in range(y0, y1 + 1):
                for x in range(x0, x1 + 1):
                    px, py = x + 0.5, y + 0.5
                    v = ((px - ax) * (cy - ay) - (py - ay) * (cx - ax)) / area
                    w = ((bx - ax) * (py - ay) - (by - ay) * (px - ax)) / area
                    if v < 0.0 or w < 0.0 or v + w > 1.0:
                        continue
                    if count == room:
                        room *= 2
                        nexts, owners, hits = _grown(nexts, room), _grown(owners, room), _grown_rows(hits, room)
                    hits[count, 0] = (1.0 - v - w) * seen[i, 2] + v * seen[j, 2] + w * seen[k, 2]
                    hits[count, 1], hits[count, 2] = v, w
                    owners[count] = face if area > 0.0 else -face - 1
                    nexts[count] = heads[y * side + x]
                    heads[y * side + x] = count
                    count += 1
        for line in range(side * side):
            length, hit = 0, heads[line]
            while hit >= 0 and length < _MOST_HITS:
                depth = hits[hit, 0]
                place = length
                while place > 0 and key[place - 1] < depth:
                    key[place], order[place] = key[place - 1], order[place - 1]
                    place -= 1
                key[place], order[place] = depth, hit
                length += 1
                hit = nexts[hit]
            for n in range(length):
                hit = order[n]
                front[n] = owners[hit] >= 0
                face = owners[hit] if front[n] else -owners[hit] - 1
                opaque = opacity[face]
                solid[n] = opaque >= 1.0 or (opaque > 0.0 and _random(hit, number) < opaque)
                _place(face, hits[hit, 1], hits[hit, 2], cuts, starts, places, who[n], share[n])
            # Of surfaces that coincide, those that face along the direction are nearer to its end.
            for n in range(1, length):
                if front[n] and not front[n - 1] and key[n - 1] - key[n] < tie:
                    key[n], key[n - 1] = key[n - 1], key[n]
                    front[n], front[n - 1] = front[n - 1], front[n]
                    solid[n], solid[n - 1] = solid[n - 1], solid[n]
                    for c in range(3):
                        who[n, c], who[n - 1, c] = who[n - 1, c], who[n, c]
                        share[n, c], share[n - 1, c] = share[n - 1, c], share[n, c]
            for sense in range(2):
                step = 1 if sense == 0 else -1
                for n in range(length):
                    receiving = 0 if front[n] == (sense == 0) else 1
                    other = n - step
                    while 0 <= other < length and (
                        not solid[other] or (front[other] == front[n] and abs(key[other] - key[n]) < tie)
                    ):
                        other -= step
                    opened = not 0 <= other < length
                    for c in range(3):
                        entry = 2 * who[n, c] + receiving
                        sums[entry, 0] += share[n, c]
                        if opened:
                            sums[entry, 1] += share[n, c]
                    if used == capacity:
                        capacity *= 2
                        receivers, sources = _grown(receivers, capacity), _grown(sources, capacity)
                        ways = _grown(ways, capacity)
                    ways[used] = 2 * number + sense
                    receivers[used] = 2 * who[n, _pick(share[n], line, number)] + receiving
                    if opened:
                        sources[used] = -1
                    else:
                        facing = 1 if front[other] == (sense == 0) else 0
                        sources[used] = 2 * who[other, _pick(share[other], line, number + 7)] + facing
                    used += 1
    return sums, receivers[:used], sources[:used], ways[:used]


@numba.njit(cache=True, nogil=True, error_model="numpy", inline="always")
def _place(face, v, w, cuts, starts, places, who, share):  # type: ignore[no-untyped-def]
    """The three points around a place on a triangle, and their weights."""
    n = cuts[face]
    s, t = v * n, w * n
    a, b = min(int(s), n - 1), min(int(t), n - 1)
    if a + b > n - 1:
        b = n - 1 - a
    s, t = s - a, t - b
    first = starts[face]
    row = first + a * (n + 1) - a * (a - 1) // 2
    after = first + (a + 1) * (n + 1) - (a + 1) * a // 2
    if s + t <= 1.0 or a + b == n - 1:
        who[0], who[1], who[2] = places[row + b], places[after + b], places[row + b + 1]
        share[0], share[1], share[2] = max(1.0 - s - t, 0.0), s, t
    else:
        who[0], who[1], who[2] = places[after + b + 1], places[row + b + 1], places[after + b]
        share[0], share[1], share[2] = s + t - 1.0, 1.0 - s, 1.0 - t


@numba.njit(cache=True, nogil=True, inline="always")
def _random(a, b):  # type: ignore[no-untyped-def]
    """A number in [0, 1) from two integers."""
    x = (np.uint32(a) * np.uint32(0x9E3779B1)) ^ (np.uint32(b) * np.uint32(0x85EBCA6B))
    x = np.uint32(x ^ (x >> np.uint32(15))) * np.uint32(0x2C1B3C6D)
    x = np.uint32(x ^ (x >> np.uint32(12))) * np.uint32(0x297A2D39)
    return np.float64(np.uint32(x ^ (x >> np.uint32(15)))) / 4294967296.0


@numba.njit(cache=True, nogil=True, inline="always")
def _pick(share, a, b):  # type: ignore[no-untyped-def]
    """One of three, with these probabilities."""
    place = _random(a, b)
    return 0 if place < share[0] else 1 if place < share[0] + share[1] else 2


@numba.njit(cache=True, nogil=True)
def _grown(array, size):  # type: ignore[no-untyped-def]
    larger = np.empty(size, array.dtype)
    larger[: len(array)] = array
    return larger


@numba.njit(cache=True, nogil=True)
def _grown_rows(array, size):  # type: ignore[no-untyped-def]
    larger = np.empty((size, array.shape[1]), array.dtype)
    larger[: len(array)] = array
    return larger


@numba.njit(cache=True, nogil=True)
def sort_links(receivers, sources, entries):  # type: ignore[no-untyped-def]
    """(entries + 1,) int32 where the links of each receiver begin, and (N,) int32 their sources in that order."""
    firsts = np.zeros(entries + 2, np.int32)
    for receiver in receivers:
        firsts[receiver + 2] += 1
    for entry in range(entries):
        firsts[entry + 2] += firsts[entry + 1]
    ordered = np.empty(len(sources), np.int32)
    for link in range(len(receivers)):
        ordered[firsts[receivers[link] + 1]] = sources[link]
        firsts[receivers[link] + 1] += 1
    return firsts[: entries + 1], ordered


@numba.njit(cache=True, nogil=True, error_model="numpy")
def gather(firsts, sources, radiance):  # type: ignore[no-untyped-def]
    """(E, C) float32 sums of the sources' radiance (S, C) over the links of each entry; negative sources are dark."""
    entries, channels = len(firsts) - 1, radiance.shape[1]
    sums = np.zeros((entries, channels), np.float32)
    for entry in range(entries):
        for link in range(firsts[entry], firsts[entry + 1]):
            source = sources[link]
            if source >= 0:
                for channel in range(channels):
                    sums[entry, channel] += radiance[source, channel]
    return sums


@numba.njit(cache=True, nogil=True)
def spread(sums, faces):  # type: ignore[no-untyped-def]
    """(2 K, C) sums to which every point adds those of its neighbors, once per shared triangle."""
    wide = sums.copy()
    for face in range(len(faces)):
        for side in range(2):
            i, j, k = 2 * faces[face, 0] + side, 2 * faces[face, 1] + side, 2 * faces[face, 2] + side
            for channel in range(sums.shape[1]):
                total = sums[i, channel] + sums[j, channel] + sums[k, channel]
                wide[i, channel] += total - sums[i, channel]
                wide[j, channel] += total - sums[j, channel]
                wide[k, channel] += total - sums[k, channel]
    return wide
