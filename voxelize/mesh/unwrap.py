"""Computes UVs of a mesh: with xatlas for meshes where it takes seconds, by projection in blocks for larger ones.

xatlas makes fewer and better charts, but its time grows faster than linearly: 4 s for 67,000 faces, 66 s for 275,000.
Larger meshes from O-Voxels are cut into blocks of voxels; in each block, connected faces that point along the same axis
are projected along it. This takes linear time and yields small charts, stretched by a factor of at most 1.8.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.core.extras import missing_package
from helix4d.voxelize.kernels.baking_kernels import MARGIN
from helix4d.voxelize.mesh.cleaning import connected_faces, face_neighbors, vertex_normals

XATLAS_FACES = 100_000
"""Meshes with up to this many faces are unwrapped by xatlas."""

_BLOCK = 32  # voxels; within a block, faces with the same direction seldom overlap
_PADDING = 2 * int(MARGIN)
_SEARCH = 14


@dataclass(frozen=True, eq=False)
class Unwrapped:
    """A mesh cut along the seams of its charts.

    Attributes:
        origin: int64 (V,), the input vertex of each new vertex.
        faces: int32 (F, 3), in the order of the input.
        uvs: float32 (V, 2) in [0, 1], v down.
    """

    origin: np.ndarray
    faces: np.ndarray
    uvs: np.ndarray


def unwrap(
    vertices: np.ndarray, faces: np.ndarray, resolution: int, texture_size: int, xatlas_faces: int = XATLAS_FACES
) -> Unwrapped:
    """Unwrap with xatlas if there are at most `xatlas_faces`, otherwise in blocks."""
    if len(faces) <= xatlas_faces:
        return unwrap_xatlas(vertices, faces, texture_size)
    return unwrap_blocks(vertices, faces, resolution, texture_size)


def unwrap_xatlas(vertices: np.ndarray, faces: np.ndarray, texture_size: int) -> Unwrapped:
    """Unwrap with xatlas, packed into one square.

    Raises:
        ConfigError: if xatlas is not installed.
    """
    try:
        import xatlas
    except ImportError as error:
        raise missing_package("unwrapping meshes", "xatlas") from error
    atlas = xatlas.Atlas()
    atlas.add_mesh(vertices.astype(np.float32), faces.astype(np.uint32))
    options = xatlas.PackOptions()
    options.padding = _PADDING
    options.resolution = texture_size
    atlas.generate(pack_options=options)
    origin, indices, uvs = atlas[0]
    return Unwrapped(origin.astype(np.int64), indices.astype(np.int32), uvs.astype(np.float32))


def unwrap_blocks(vertices: np.ndarray, faces: np.ndarray, resolution: int, texture_size: int) -> Unwrapped:
    """Unwrap by projection in blocks of 32³ voxels, all at one scale, packed in rows.

    Args:
        vertices: (V, 3) in the unit cube.
        faces: (F, 3), consistently oriented.
        resolution: voxels per side.
        texture_size: texels per side; the scale is the largest at which all charts fit, with padding.

    Raises:
        ConfigError: if the texture is too small for the charts at any scale.
    """
    # Direction of a face: the mean of its corners' normals, which is less noisy than its own normal.
    looks = vertex_normals(vertices, faces)[faces].sum(axis=1)
    axis = np.abs(looks).argmax(axis=1)
    positive = np.take_along_axis(looks, axis[:, None], axis=1)[:, 0] > 0
    centers = vertices[faces].mean(axis=1)
    blocks = np.floor((centers + 0.5) * (resolution / _BLOCK)).astype(np.int64)
    span = int(np.abs(blocks).max()) * 2 + 3
    place = ((blocks[:, 0] + span // 2) * span + blocks[:, 1] + span // 2) * span + blocks[:, 2] + span // 2
    label = place * 6 + 2 * axis + positive
    first, second, _ = face_neighbors(faces, len(vertices))
    together = label[first] == label[second]
    _, chart = np.unique(connected_faces(len(faces), first[together], second[together]), return_inverse=True)

    # One vertex per chart that uses it, projected along the chart's axis without mirroring.
    names, corners = np.unique((chart[:, None] * len(vertices) + faces).ravel(), return_inverse=True)
    origin, owner = names % len(vertices), names // len(vertices)
    count = int(chart.max()) + 1
    chart_axis, chart_sign = np.zeros(count, np.int64), np.zeros(count, bool)
    chart_axis[chart], chart_sign[chart] = axis, positive
    points = vertices[origin].astype(np.float64) * resolution
    rows = np.arange(len(origin))
    u = points[rows, (chart_axis[owner] + 1) % 3] * np.where(chart_sign[owner], 1.0, -1.0)
    v = -points[rows, (chart_axis[owner] + 2) % 3]
    flat = np.stack([u, v], axis=1)
    low = np.full((count, 2), np.inf)
    high = np.full((count, 2), -np.inf)
    np.minimum.at(low, owner, flat)
    np.maximum.at(high, owner, flat)

    corner, scale = _pack(high - low, texture_size)
    texels = corner[owner] + 0.5 * _PADDING + (flat - low[owner]) * scale
    uvs = (texels / texture_size).astype(np.float32)
    return Unwrapped(origin, corners.reshape(faces.shape).astype(np.int32), uvs)


def _pack(sizes: np.ndarray, texture_size: int) -> tuple[np.ndarray, float]:
    """Pack rectangles (N, 2) in rows by decreasing height: corners in texels (N, 2), and texels per unit."""
    order = np.argsort(-sizes[:, 1], kind="stable")
    area = float(np.prod(sizes + 1e-9, axis=1).sum())
    low, high = 0.0, 2.0 * texture_size / max(np.sqrt(area), 1e-9)
    best = _rows(sizes * 0.0, order, texture_size)
    if best is None:
        raise ConfigError(
            f"{len(sizes)} charts do not fit into a texture of {texture_size} pixels: increase --texture-size"
        )
    for _ in range(_SEARCH):
        scale = (low + high) / 2
        found = _rows(sizes * scale, order, texture_size)
        if found is None:
            high = scale
        else:
            low, best = scale, found
    return best, low


def _rows(sizes: np.ndarray, order: np.ndarray, texture_size: int) -> np.ndarray | None:
    padded = np.ceil(sizes) + _PADDING + 1
    corners = np.empty_like(padded)
    x = y = height = 0.0
    for chart in order.tolist():
        width = padded[chart, 0]
        if x + width > texture_size:
            x, y, height = 0.0, y + height, 0.0
        height = max(height, padded[chart, 1])
        if width > texture_size or y + height > texture_size:
            return None
        corners[chart] = x, y
        x += width
    return corners
