"""Builds a self-contained HTML page (`viewer.html` and data) that plays meshes or O-Voxels in 3D, offline."""

from __future__ import annotations

import base64
import json
import zlib
from collections.abc import Mapping
from importlib import resources
from typing import Any

import numpy as np

from helix4d.assets import AlphaMode
from helix4d.voxelize import OVoxel, extract_mesh
from helix4d.voxelize.mesh.alpha_mode import AlphaCounts

_PLACE = "/*DATA*/"


def viewer_page(data: Mapping[str, Any]) -> bytes:
    """Build the page.

    Args:
        data: `about`, a text; `fps`; `frames`, each the base64 of a GLB from `helix4d.voxelize.mesh.glb`, a result of
            `packed_ovoxel`, or None for an empty frame; `input`, addresses of images, none or one per frame. With
            O-Voxels also `resolution`, voxels per side. With stored cameras also `views`, each with `camera` (see
            `Camera.to_json`) and `images`, one address per frame.
    """
    # Within a script element, only "<" can end it or start a comment.
    text = json.dumps(data, separators=(",", ":")).replace("<", "\\u003c")
    page = resources.files("helix4d.render.pages").joinpath("viewer.html").read_text(encoding="utf-8")
    return page.replace(_PLACE, text).encode()


def packed_ovoxel(ovoxel: OVoxel, factor: int = 1) -> dict[str, Any] | None:
    """Pack an O-Voxel and its mesh for the page; None if it has no voxels.

    Args:
        ovoxel: an O-Voxel of resolution R.
        factor: number of voxels along each axis that are merged into one of mean position and mean color; the page's
            `resolution` is then R / factor.
    """
    if not len(ovoxel):
        return None
    vertices, faces = extract_mesh(ovoxel)
    paint = np.concatenate([ovoxel.base_color, ovoxel.alpha, ovoxel.metallic, ovoxel.roughness], axis=1)
    cells, inside = ovoxel.coords, ovoxel.dual_vertices.astype(np.float64)
    if factor > 1:
        cells, inside, paint, faces = _coarse(
            ovoxel.coords, vertices, paint, faces, ovoxel.resolution // factor, factor
        )
    columns = [
        np.diff(faces.reshape(-1).astype("<i4"), prepend=np.int32(0)),
        *(np.diff(cells[:, axis].astype("<u2"), prepend=np.uint16(0)) for axis in range(3)),
        *(np.rint(inside[:, axis] * 255).astype(np.uint8) for axis in range(3)),
        *np.ascontiguousarray(paint.T),
    ]
    packed = zlib.compress(b"".join(column.tobytes() for column in columns), 6)
    return {
        "voxels": len(cells),
        "faces": len(faces),
        "blended": AlphaCounts.of(ovoxel).mode is not AlphaMode.OPAQUE,
        "packed": base64.b64encode(packed).decode(),
    }


def _coarse(
    coords: np.ndarray, vertices: np.ndarray, paint: np.ndarray, faces: np.ndarray, side: int, factor: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Merge voxels into blocks: cells (M, 3), positions in them (M, 3) in [0, 1], paint (M, 6) uint8, faces (K, 3).

    Faces that collapse to a line or a point are dropped, and of several faces between the same blocks one is kept.
    """
    block = coords.astype(np.int64) // factor
    codes, block_of = np.unique((block[:, 0] * side + block[:, 1]) * side + block[:, 2], return_inverse=True)
    cells = np.stack([codes // side**2, codes // side % side, codes % side], axis=1)
    count = np.bincount(block_of)[:, None]
    mean = [np.bincount(block_of, column)[:, None] / count for column in (*vertices.T, *paint.T)]
    inside = np.clip((np.concatenate(mean[:3], axis=1) + 0.5) * side - cells, 0, 1)
    merged = block_of[faces]
    corners = np.sort(merged, axis=1)
    solid = (corners[:, 0] < corners[:, 1]) & (corners[:, 1] < corners[:, 2])
    _, first = np.unique(corners[solid], axis=0, return_index=True)
    return cells, inside, np.rint(np.concatenate(mean[3:], axis=1)).astype(np.uint8), merged[solid][np.sort(first)]
