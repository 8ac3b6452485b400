"""Dual grids of small meshes, attributes of sample assets, and what becomes of one painted O-Voxel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from helix4d.assets import normalize
from helix4d.core import generator
from helix4d.voxelize import OVoxel, dual_grid, extract_mesh, voxelize_clip
from tests.data.recipes.assets import bake_sample
from tests.voxelize.meshes import icosphere

ATTRIBUTES = ("base_color", "metallic", "roughness", "alpha")
_PAINTED = ("coords", "dual_vertices", "intersected", *ATTRIBUTES)
_TEXTURED = ("butterfly", "caterpillar", "firefly_jar")  # MASK, OPAQUE with three textures, BLEND
VXZ_OPTIONS: Mapping[str, dict[str, Any]] = {
    "none": {"compression": "none"},
    "zstd": {"compression": "zstd"},
    "deflate": {"compression": "deflate"},
    "lzma": {"compression": "lzma", "level": 1},
    "zstd_chunk8": {"compression": "zstd", "chunk_size": 8},
    "none_interleave_none": {"compression": "none", "interleave": "none"},
    "none_interleave_all": {"compression": "none", "interleave": "all"},
}


def dual_grids() -> dict[str, np.ndarray]:
    """`MESH.RESOLUTION.coords` (N, 3) uint8, `.dual_vertices` (N, 3) float32, `.intersected` (N, 3) uint8."""
    arrays = {}
    for name, (vertices, faces) in _meshes().items():
        for resolution in (8, 24):
            grid = dual_grid(vertices, faces, resolution)
            prefix = f"{name}.{resolution}"
            arrays[f"{prefix}.coords"] = grid.coords.astype(np.uint8)
            arrays[f"{prefix}.dual_vertices"] = grid.dual_vertices
            arrays[f"{prefix}.intersected"] = grid.intersected.astype(np.uint8)
    return arrays


def sample_attributes() -> dict[str, np.ndarray]:
    """`NAME.coords` (N, 3) and `NAME.ATTRIBUTE` (N, C), uint8: the middle one of three frames at 32^3."""
    arrays = {}
    for name in _TEXTURED:
        clip, _ = normalize(bake_sample(name, 3))
        ovoxel = voxelize_clip(clip, 32)[1]
        arrays[f"{name}.coords"] = ovoxel.coords.astype(np.uint8)
        arrays.update({f"{name}.{attribute}": getattr(ovoxel, attribute) for attribute in ATTRIBUTES})
    return arrays


def painted_arrays() -> dict[str, np.ndarray]:
    """The fields of a sphere at 16^3 with random attributes, dual vertices as a `.vxz` file stores them."""
    grid = dual_grid(*icosphere(2, 0.41), 16)
    random = generator("frozen", "painted")
    arrays: dict[str, np.ndarray] = {
        "coords": grid.coords,
        "dual_vertices": (grid.dual_vertices * np.float32(255)).astype(np.uint8) / np.float32(255),
        "intersected": grid.intersected,
    }
    for name, channels in zip(ATTRIBUTES, (3, 1, 1, 1), strict=True):
        arrays[name] = random.integers(0, 256, (len(grid.coords), channels), np.uint8)
    return arrays


def painted_ovoxel(arrays: Mapping[str, np.ndarray]) -> OVoxel:
    """The O-Voxel of these fields."""
    return OVoxel(16, *(arrays[name] for name in _PAINTED))


def extracted_meshes(arrays: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
    """`vertices` (N, 3) float32 and, for each way to split a quad, `SPLIT` (F, 3) int32 faces."""
    ovoxel = painted_ovoxel(arrays)
    weights = generator("frozen", "weights").random((len(ovoxel), 1), np.float32)
    vertices, aligned = extract_mesh(ovoxel, "aligned")
    return {
        "vertices": vertices,
        "aligned": aligned,
        "first": extract_mesh(ovoxel, "first")[1],
        "weight": extract_mesh(ovoxel, "weight", weights)[1],
    }


def _meshes() -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Closed, open with a boundary, and crossing itself; coordinates are rounded, so that they are equal everywhere."""
    meshes = {"sphere": icosphere(2, 0.43), "strip": _strip(), "crossing": _crossing()}
    return {name: (np.round(vertices, 4).astype(np.float32), faces) for name, (vertices, faces) in meshes.items()}


def _strip() -> tuple[np.ndarray, np.ndarray]:
    """A wavy open sheet of 7 x 2 quads."""
    along, across = np.meshgrid(np.linspace(-0.45, 0.45, 8), [-0.2, 0.0, 0.2], indexing="ij")
    vertices = np.stack([along, across, 0.2 * np.sin(7 * along) + 0.1 * across], axis=-1).reshape(-1, 3)
    corner = (np.arange(7)[:, None] * 3 + np.arange(2)).ravel()
    quads = np.stack([corner, corner + 3, corner + 4, corner + 1], axis=1)
    return vertices, np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]]).astype(np.int32)


def _crossing() -> tuple[np.ndarray, np.ndarray]:
    """Two spheres that cut into each other."""
    vertices, faces = icosphere(1, 0.25)
    shifted = [vertices + np.float32([x, 0.03, -0.02]) for x in (-0.15, 0.15)]
    return np.concatenate(shifted), np.concatenate([faces, faces + len(vertices)]).astype(np.int32)
