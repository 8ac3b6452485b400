"""Cleans up meshes extracted from O-Voxels: orients faces, removes small components, closes small holes."""

from __future__ import annotations

import numpy as np
from numba import njit

from helix4d.core import ConfigError

_FLAT = 0.01
"""Six times the enclosed volume over the power 1.5 of twice the area, below which a sheet is flat; a sphere has 0.2."""


def orient_faces(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Orient faces (F, 3) consistently, and outwards where a component encloses a volume.

    An O-Voxel stores where a surface crosses an edge but not in which direction, so the extracted faces have arbitrary
    orientations. Faces are neighbors if they are the only two at an edge. Sheets that enclose next to nothing face away
    from the middle of all faces, so that a cape has the same side outside in all frames.
    """
    if not len(faces):
        return faces
    first, second, disagree = face_neighbors(faces, len(vertices))
    piece, flipped = _turned_alike(len(faces), first, second, disagree)
    turned = np.where(flipped[:, None], faces[:, ::-1], faces)

    corners = vertices[turned].astype(np.float64)
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    centers = corners.mean(axis=1)
    counts = np.bincount(piece, minlength=len(faces))
    sums = np.stack([np.bincount(piece, centers[:, k], len(faces)) for k in range(3)], axis=1)
    middle = sums / np.maximum(counts, 1)[:, None]
    volume = np.bincount(piece, np.einsum("fk,fk->f", centers - middle[piece], areas), len(faces))
    size = np.bincount(piece, np.linalg.norm(areas, axis=1), len(faces)) ** 1.5
    away = np.bincount(piece, np.einsum("fk,fk->f", centers - centers.mean(axis=0), areas), len(faces))
    inside_out = np.where(np.abs(volume) < _FLAT * size, away, volume)[piece] < 0
    return np.ascontiguousarray(np.where(inside_out[:, None], turned[:, ::-1], turned).astype(faces.dtype))


def face_neighbors(faces: np.ndarray, vertices: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Pairs of faces (F, 3) that are the only two at an edge.

    Returns:
        first and second face, int64 (P,) each, and bool (P,) whether their orientations disagree, that is, whether both
        run along the edge in the same direction.
    """
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    owners = np.tile(np.arange(len(faces)), 3)
    names = edges.min(axis=1) * vertices + edges.max(axis=1)
    order = np.argsort(names, kind="stable")
    starts = np.flatnonzero(np.diff(names[order], prepend=-1))
    pairs = starts[np.diff(starts, append=len(order)) == 2]
    first, second = order[pairs], order[pairs + 1]
    return owners[first], owners[second], edges[first, 0] == edges[second, 0]


def connected_faces(count: int, first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """int64 (count,) component labels of faces connected by the given pairs."""
    piece, _ = _turned_alike(count, first, second, np.zeros(len(first), np.bool_))
    return piece


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals, float32 (V, 3): the area-weighted mean of the faces around each vertex; +z without faces."""
    corners = vertices[faces].astype(np.float64)
    areas = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    summed = np.zeros((len(vertices), 3))
    for axis in range(3):
        for corner in range(3):
            summed[:, axis] += np.bincount(faces[:, corner], areas[:, axis], len(vertices))
    lengths = np.linalg.norm(summed, axis=1, keepdims=True)
    up = np.array([0.0, 0.0, 1.0])
    return np.where(lengths > 1e-20, summed / np.maximum(lengths, 1e-20), up).astype(np.float32)


def remove_small_components(faces: np.ndarray, min_share: float) -> np.ndarray:
    """Keep the faces (F, 3) of components with at least `min_share` of all faces, in order.

    Faces that share a vertex are connected. The largest component is always kept.

    Raises:
        ConfigError: if the share is not between 0 and 1.
    """
    if not 0 <= min_share <= 1:
        raise ConfigError(f"min_share {min_share}: must be between 0 and 1")
    if not len(faces):
        return faces
    labels = _components(np.ascontiguousarray(faces, np.int64), int(faces.max()) + 1)[faces[:, 0]]
    _, piece, sizes = np.unique(labels, return_inverse=True, return_counts=True)
    kept = (sizes >= min_share * len(faces)) | (sizes == sizes.max())
    return np.ascontiguousarray(faces[kept[piece]])


def fill_holes(vertices: np.ndarray, faces: np.ndarray, max_perimeter: float) -> tuple[np.ndarray, np.ndarray]:
    """Close every boundary loop of at most `max_perimeter` with a fan around its center.

    A loop is a ring of edges that have only one face. Rings that touch stay open, because the order of their edges is
    ambiguous, and so do longer rings, such as the rim of a leaf.

    Args:
        vertices: float32 (V, 3).
        faces: int32 (F, 3), consistently oriented (`orient_faces`).
        max_perimeter: longest perimeter to close, in the units of the vertices.

    Returns:
        The vertices plus one per closed hole, and the faces plus one per edge of its ring, oriented like the faces
        around it.
    """
    if not len(faces) or max_perimeter <= 0:
        return vertices, faces
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
    undirected = np.sort(edges, axis=1)
    names = undirected[:, 0] * len(vertices) + undirected[:, 1]
    _, first, counts = np.unique(names, return_index=True, return_counts=True)
    border = edges[np.sort(first[counts == 1])]
    outgoing = np.bincount(border[:, 0], minlength=len(vertices))
    following = {int(a): int(b) for a, b in border}
    centers: list[np.ndarray] = []
    added: list[tuple[int, int, int]] = []
    for start in sorted(following):
        ring = []
        at = start
        while at in following and outgoing[at] == 1:
            ring.append(at)
            at = following.pop(at)
        if at != start or len(ring) < 3:
            continue
        points = vertices[ring].astype(np.float64)
        if np.linalg.norm(points - np.roll(points, -1, axis=0), axis=1).sum() > max_perimeter:
            continue
        center = len(vertices) + len(centers)
        centers.append(points.mean(axis=0))
        # The faces around the hole run along the ring, so the new faces run against it.
        added += [(b, a, center) for a, b in zip(ring, [*ring[1:], ring[0]], strict=True)]
    if not centers:
        return vertices, faces
    return (
        np.concatenate([vertices, np.array(centers, np.float32)]),
        np.concatenate([faces, np.array(added, np.int32)]),
    )


@njit(cache=True, error_model="numpy")
def _turned_alike(count: int, first: np.ndarray, second: np.ndarray, disagree: np.ndarray) -> tuple:
    """Union-find with parity over `count` faces: the component of each, and whether it must be flipped."""
    parent = np.arange(count)
    parity = np.zeros(count, np.bool_)  # relative to the parent
    for pair in range(len(first)):
        a, b = first[pair], second[pair]
        turn = disagree[pair]
        while parent[a] != a:
            turn ^= parity[a]
            a = parent[a]
        while parent[b] != b:
            turn ^= parity[b]
            b = parent[b]
        if a != b:
            low, high = min(a, b), max(a, b)
            parent[high] = low
            parity[high] = turn
        # Path compression for the two faces.
        for start in (first[pair], second[pair]):
            at = start
            whole = False
            while parent[at] != at:
                whole ^= parity[at]
                at = parent[at]
            if start != at:
                parent[start] = at
                parity[start] = whole
    flipped = np.zeros(count, np.bool_)
    piece = np.empty(count, np.int64)
    for face in range(count):
        at = face
        whole = False
        while parent[at] != at:
            whole ^= parity[at]
            at = parent[at]
        piece[face] = at
        flipped[face] = whole
    return piece, flipped


@njit(cache=True, error_model="numpy")
def _components(faces: np.ndarray, count: int) -> np.ndarray:
    """(count,) smallest vertex of each vertex's component."""
    parent = np.arange(count)
    for f in range(len(faces)):
        for corner in range(1, 3):
            a, b = faces[f, 0], faces[f, corner]
            while parent[a] != a:
                parent[a] = parent[parent[a]]
                a = parent[a]
            while parent[b] != b:
                parent[b] = parent[parent[b]]
                b = parent[b]
            parent[max(a, b)] = min(a, b)
    for v in range(count):
        parent[v] = parent[parent[v]]
    return parent
