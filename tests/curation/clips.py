"""Clips of boxes and triangles with known measures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from helix4d.assets import Clip, Frame, Material, Topology

Mesh = tuple[np.ndarray, np.ndarray]
"""Vertices (V, 3) and faces (F, 3)."""
NOTHING: Mesh = (np.zeros((0, 3)), np.zeros((0, 3), int))
_SIDES = [[0, 2, 3, 1], [4, 5, 7, 6], [0, 1, 5, 4], [2, 6, 7, 3], [0, 4, 6, 2], [1, 3, 7, 5]]


def box(edge: float = 1.0, center: Sequence[float] = (0.0, 0.0, 0.0), cuts: int = 1) -> Mesh:
    """Return a cube of 12·cuts² triangles."""
    corners = edge * (np.array([[x, y, z] for x in (0, 1) for y in (0, 1) for z in (0, 1)]) - 0.5) + np.array(center)
    step = np.linspace(0, 1, cuts + 1)
    vertices, faces = [], []
    for number, side in enumerate(_SIDES):
        a, b, _, d = corners[side]
        grid = a + step[:, None, None] * (b - a) + step[None, :, None] * (d - a)
        vertices.append(grid.reshape(-1, 3))
        row, column = (axis.ravel() for axis in np.meshgrid(np.arange(cuts), np.arange(cuts), indexing="ij"))
        first = number * (cuts + 1) ** 2 + row * (cuts + 1) + column
        faces += [
            np.stack([first, first + cuts + 1, first + cuts + 2], 1),
            np.stack([first, first + cuts + 2, first + 1], 1),
        ]
    return np.concatenate(vertices), np.concatenate(faces)


def sphere(radius: float = 0.5, center: Sequence[float] = (0.0, 0.0, 0.0), cuts: int = 12) -> Mesh:
    """Return a box inflated to a sphere."""
    vertices, faces = box(cuts=cuts)
    return radius * vertices / np.linalg.norm(vertices, axis=1, keepdims=True) + np.array(center), faces


def join(*meshes: Mesh) -> Mesh:
    """Merge several meshes."""
    starts = np.cumsum([0] + [len(vertices) for vertices, _ in meshes])
    faces = [faces + start for (_, faces), start in zip(meshes, starts, strict=False)]
    return np.concatenate([vertices for vertices, _ in meshes]), np.concatenate(faces)


def moved(mesh: Mesh, offset: Sequence[float]) -> Mesh:
    """Translate a mesh."""
    return mesh[0] + np.array(offset), mesh[1]


def clip_of(meshes: Sequence[Mesh], shared: bool = True, ids: Any = None, **fields: Any) -> Clip:
    """Return a clip with one frame per mesh.

    Args:
        meshes: of the frames.
        shared: frames have one topology object, as a baked clip of constant topology has.
        ids: (F,) material of each face; 0 by default.
        fields: of the `Clip`.
    """

    def topology(faces: np.ndarray) -> Topology:
        materials = np.zeros(len(faces), np.int32) if ids is None else np.asarray(ids, np.int32)
        return Topology(faces.astype(np.int32), np.zeros((0, len(faces), 3, 2), np.float32), materials)

    one = topology(meshes[0][1])
    frames = []
    for vertices, faces in meshes:
        own = one if shared else topology(faces)
        normals = np.tile(np.float32([0, 0, 1]), (len(vertices), 1))
        frames.append(Frame(np.ascontiguousarray(vertices, np.float32), normals, own))
    values: dict[str, Any] = {"name": "test", "index": 0, "materials": (Material(),), **fields}
    return Clip(times=np.linspace(0.0, 1.0, len(frames)), frames=tuple(frames), **values)
