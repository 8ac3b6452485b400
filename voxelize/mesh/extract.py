"""Extracts a mesh from an O-Voxel: one vertex per voxel, two triangles around each crossed grid edge."""

from __future__ import annotations

from typing import Literal

import numpy as np

from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.mesh_kernels import ALIGNED, FIRST, WEIGHT, dual_faces
from helix4d.voxelize.ovoxel import OVoxel, morton_codes, spread_table

Split = Literal["weight", "aligned", "first"]
_SPLITS = {"first": FIRST, "weight": WEIGHT, "aligned": ALIGNED}
_BUCKET_SHIFT = 9


def extract_mesh(
    ovoxel: OVoxel, split: Split = "aligned", split_weight: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """Extract the surface of an O-Voxel; see `extract_mesh_arrays`."""
    return extract_mesh_arrays(
        ovoxel.resolution, ovoxel.coords, ovoxel.dual_vertices, ovoxel.intersected, split, split_weight
    )


def extract_mesh_arrays(
    resolution: int,
    coords: np.ndarray,
    dual_vertices: np.ndarray,
    intersected: np.ndarray,
    split: Split = "aligned",
    split_weight: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """Extract the surface of voxels in any order.

    Args:
        resolution: voxels per side R.
        coords: (N, 3) distinct integers in [0, R).
        dual_vertices: (N, 3) in [0, 1].
        intersected: (N, 3) bool.
        split: the diagonal at which quads are split: the one with the larger product of weights at its ends ("weight",
            predicted by TRELLIS.2's decoder), the one with better aligned triangle normals ("aligned", our own), or
            always 0-2 ("first", as TRELLIS.2 does without weights).
        split_weight: (N,) or (N, 1), for "weight".

    Returns:
        vertices (N, 3) float32 in [-0.5, 0.5], vertex n in voxel n, and faces (F, 3) int32. A crossed edge without all
        of its four voxels has no faces.

    Raises:
        ValueError: if the split is unknown, weights are missing, or coords are duplicated or out of range.
    """
    if split not in _SPLITS:
        raise ValueError(f"split {split!r}: expected one of {', '.join(_SPLITS)}")
    if split == "weight" and split_weight is None:
        raise ValueError("split 'weight' requires split_weight, one number per voxel")
    count = len(coords)
    weights = np.zeros(count, np.float32) if split_weight is None else np.asarray(split_weight, np.float32).ravel()
    if not len(dual_vertices) == len(intersected) == len(weights) == count:
        raise ValueError(
            f"{count} coords, {len(dual_vertices)} dual vertices, {len(intersected)} flags, {len(weights)} weights"
        )
    if count == 0:
        return np.zeros((0, 3), np.float32), np.zeros((0, 3), np.int32)
    warm_up()
    if coords.min() < 0 or coords.max() >= resolution:
        raise ValueError(f"coords range from {coords.min()} to {coords.max()}: must be between 0 and {resolution - 1}")
    vertices = ((coords + dual_vertices.astype(np.float32)) * np.float32(1 / resolution) - np.float32(0.5)).astype(
        np.float32
    )
    codes = morton_codes(coords)
    order = None
    if np.any(codes[1:] <= codes[:-1]):
        order = np.argsort(codes, kind="stable")
        codes = codes[order]
        if np.any(codes[1:] == codes[:-1]):
            raise ValueError("coords contain the same voxel twice")
    rows = slice(None) if order is None else order
    heads = np.searchsorted(codes >> _BUCKET_SHIFT, np.arange((codes[-1] >> _BUCKET_SHIFT) + 2))
    faces = dual_faces(
        resolution,
        codes,
        heads,
        _BUCKET_SHIFT,
        spread_table(resolution),
        np.ascontiguousarray(coords[rows], np.int32),
        np.ascontiguousarray(intersected[rows], np.bool_),
        vertices[rows],
        weights[rows],
        _SPLITS[split],
    )
    return vertices, faces if order is None else order[faces].astype(np.int32)
