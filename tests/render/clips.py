"""Small hand-made clips for the rendering tests."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from helix4d.assets import Clip, Frame, Material, Topology

Part = tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]
"""Vertices (V, 3), normals (V, 3), faces (F, 3), corner UVs (F, 3, 2)."""


def box(low: Sequence[float] = (-0.5, -0.5, -0.5), high: Sequence[float] = (0.5, 0.5, 0.5)) -> Part:
    """Six faces in the order -X, +X, -Y, +Y, -Z, +Z, each with the whole of UV space; u and v along the next axes."""
    ends = np.array([low, high])
    square = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])
    vertices, normals, faces, uvs = [], [], [], []
    for axis in range(3):
        for side in (0, 1):
            corners = np.empty((4, 3))
            corners[:, axis] = ends[side, axis]
            for across in (1, 2):
                along = (axis + across) % 3
                corners[:, along] = ends[square[:, across - 1], along]
            normal = np.zeros(3)
            normal[axis] = 2 * side - 1
            triangles = np.array([[0, 1, 2], [0, 2, 3]])
            triangles = triangles if side else triangles[:, ::-1]
            faces.append(triangles + 4 * len(vertices))
            uvs.append(square[triangles])
            vertices.append(corners)
            normals.append(np.tile(normal, (4, 1)))
    return np.concatenate(vertices), np.concatenate(normals), np.concatenate(faces), np.concatenate(uvs)


def sphere(radius: float = 0.5, center: Sequence[float] = (0.0, 0.0, 0.0), segments: int = 48) -> Part:
    """Longitude and latitude, smooth normals."""
    polar, azimuth = np.meshgrid(
        np.linspace(0.0, np.pi, segments // 2 + 1), np.linspace(0.0, 2.0 * np.pi, segments + 1), indexing="ij"
    )
    normals = np.stack([np.sin(polar) * np.cos(azimuth), np.sin(polar) * np.sin(azimuth), np.cos(polar)], -1)
    uvs = np.stack([azimuth / (2.0 * np.pi), polar / np.pi], -1).reshape(-1, 2)
    row, column = np.meshgrid(np.arange(segments // 2), np.arange(segments), indexing="ij")
    a, width = (row * (segments + 1) + column).ravel(), segments + 1
    faces = np.concatenate([np.stack([a, a + width, a + width + 1], 1), np.stack([a, a + width + 1, a + 1], 1)])
    normals = normals.reshape(-1, 3)
    return normals * radius + np.array(center), normals, faces, uvs[faces]


def quad(y: float = 0.0, half: float = 0.5) -> Part:
    """A square across the Y axis that faces -Y, the first row of an image on its upper edge (+Z)."""
    corners = half * np.array([[-1, 0, 1], [-1, 0, -1], [1, 0, -1], [1, 0, 1]]) + np.array([0.0, y, 0.0])
    uvs = np.array([[0, 0], [0, 1], [1, 1], [1, 0]])
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    return corners, np.tile([0.0, -1.0, 0.0], (4, 1)), faces, uvs[faces]


def topology(parts: Sequence[Part], ids: Sequence[Sequence[int] | int], colors: np.ndarray | None = None) -> Topology:
    """Concatenated parts; `ids` assigns a material to each part or to each face."""
    offsets = np.cumsum([0] + [len(part[0]) for part in parts])
    faces = [part[2] + offset for part, offset in zip(parts, offsets, strict=False)]
    materials = [np.broadcast_to(own, len(part[2])) for part, own in zip(parts, ids, strict=True)]
    uvs = np.concatenate([part[3] for part in parts])[None]
    return Topology(
        np.concatenate(faces).astype(np.int32),
        uvs.astype(np.float32),
        np.concatenate(materials).astype(np.int32),
        colors,
    )


def clip(
    parts: Sequence[Part],
    materials: Sequence[Material],
    images: Sequence[np.ndarray] = (),
    ids: Sequence[Sequence[int] | int] | None = None,
    colors: np.ndarray | None = None,
) -> Clip:
    """One frame; part i has material i unless `ids` says otherwise."""
    shared = topology(parts, range(len(parts)) if ids is None else ids, colors)
    vertices = np.concatenate([part[0] for part in parts]).astype(np.float32)
    normals = np.concatenate([part[1] for part in parts]).astype(np.float32)
    return Clip("test", 0, np.zeros(1), (Frame(vertices, normals, shared),), tuple(materials), tuple(images))


def empty_frame() -> Frame:
    """A frame without triangles."""
    none = Topology(np.zeros((0, 3), np.int32), np.zeros((0, 0, 3, 2), np.float32), np.zeros(0, np.int32))
    return Frame(np.zeros((0, 3), np.float32), np.zeros((0, 3), np.float32), none)
