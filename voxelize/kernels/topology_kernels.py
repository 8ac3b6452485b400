"""Finds coinciding vertices and boundary edges, once per topology."""

# mypy: disallow-untyped-defs=False

from __future__ import annotations

import numpy as np

from helix4d.voxelize.kernels.compilation import array, f4, i4, kernel


@kernel(array(f4, 2), array(i4, 1))
def refine_labels(vertices, labels):
    """Split groups of equal labels by position: the new label of v is the first vertex with its label and position.

    vertices (V, 3) float32, labels (V,) int32; positions are equal if their coordinates are, so -0 equals 0.
    """
    count = len(vertices)
    size = 1
    while size < 2 * count:
        size *= 2
    mask = np.uint64(size - 1)
    heads = np.full(size, -1, np.int32)
    refined = np.empty(count, np.int32)
    bits = np.empty(3, np.float32)
    words = bits.view(np.uint32)
    for v in range(count):
        for axis in range(3):
            bits[axis] = vertices[v, axis] + np.float32(0.0)  # -0 + 0 is +0
        key = np.uint64(labels[v]) * np.uint64(0x9E3779B97F4A7C15)
        for axis in range(3):
            key = (key ^ np.uint64(words[axis])) * np.uint64(0xFF51AFD7ED558CCD)
            key ^= key >> np.uint64(32)
        place = np.int64(key & mask)
        while True:
            other = heads[place]
            if other < 0:
                heads[place] = v
                refined[v] = v
                break
            if (
                labels[other] == labels[v]
                and vertices[other, 0] == vertices[v, 0]
                and vertices[other, 1] == vertices[v, 1]
                and vertices[other, 2] == vertices[v, 2]
            ):
                refined[v] = other
                break
            place = np.int64((np.uint64(place) + np.uint64(1)) & mask)
    return refined


@kernel(array(i4, 2), array(i4, 1))
def boundary_edges(faces, labels):
    """(E, 2) int32 edges of exactly one triangle, as vertices of `faces`, in the order of their triangles.

    Vertices with equal labels (V,) int32 count as one. A triangle with two equal corners has no edges.
    """
    count = len(labels)
    starts = np.zeros(count + 1, np.int64)
    for f in range(len(faces)):
        a, b, c = labels[faces[f, 0]], labels[faces[f, 1]], labels[faces[f, 2]]
        if a == b or b == c or c == a:
            continue
        starts[min(a, b) + 1] += 1
        starts[min(b, c) + 1] += 1
        starts[min(c, a) + 1] += 1
    for v in range(count):
        starts[v + 1] += starts[v]
    total = starts[count]
    fill = starts[:-1].copy()
    others = np.empty(total, np.int32)
    origins = np.empty(total, np.int64)
    for f in range(len(faces)):
        a, b, c = labels[faces[f, 0]], labels[faces[f, 1]], labels[faces[f, 2]]
        if a == b or b == c or c == a:
            continue
        for corner in range(3):
            p, q = (a, b) if corner == 0 else ((b, c) if corner == 1 else (c, a))
            place = fill[min(p, q)]
            fill[min(p, q)] = place + 1
            others[place] = max(p, q)
            origins[place] = 3 * f + corner
    single = np.zeros(3 * len(faces), np.bool_)
    found = 0
    for v in range(count):
        first, stop = starts[v], starts[v + 1]
        if stop - first > 64:  # a fan: without sorting, a vertex of a million triangles would cost a trillion steps
            order = _ascending(others[first:stop])
            for k in range(len(order)):
                here = others[first + order[k]]
                before = k > 0 and others[first + order[k - 1]] == here
                after = k + 1 < len(order) and others[first + order[k + 1]] == here
                if not before and not after:
                    single[origins[first + order[k]]] = True
                    found += 1
            continue
        for k in range(first, stop):
            uses = 0
            for m in range(first, stop):
                if others[m] == others[k]:
                    uses += 1
            if uses == 1:
                single[origins[k]] = True
                found += 1
    edges = np.empty((found, 2), np.int32)
    n = 0
    for f in range(len(faces)):
        for corner in range(3):
            if single[3 * f + corner]:
                edges[n, 0] = faces[f, corner]
                edges[n, 1] = faces[f, (corner + 1) % 3]
                n += 1
    return edges


@kernel()
def _ascending(values):
    """Indices that sort values, with a shell sort: compiling numpy's takes longer than all the rest of this file."""
    order = np.arange(len(values))
    gap = len(values) // 2
    while gap > 0:
        for k in range(gap, len(values)):
            item = order[k]
            place = k
            while place >= gap and values[order[place - gap]] > values[item]:
                order[place] = order[place - gap]
                place -= gap
            order[place] = item
        gap = gap // 2 if gap == 2 else gap * 5 // 11
    return order
