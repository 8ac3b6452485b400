"""The GPU self-check: a small mesh is converted on CPU and GPU, and the results are compared."""

from __future__ import annotations

import logging
from functools import lru_cache

import numpy as np

from helix4d.assets import Material, Texture
from helix4d.voxelize.convert.cpu import convert_on_cpu
from helix4d.voxelize.convert.gpu import convert_on_gpu
from helix4d.voxelize.convert.grid import QuadricWeights
from helix4d.voxelize.convert.surface import material_table

_LOG = logging.getLogger(__name__)


@lru_cache(maxsize=1)
def gpu_works() -> bool:
    """Return whether there is a CUDA device that converts a small mesh like the CPU."""
    try:
        from numba import cuda

        if not cuda.is_available():
            return False
        difference = _difference()
    except Exception as error:  # noqa: BLE001 (drivers and toolkits fail in many ways; the CPU always works)
        _LOG.warning("voxelizing on the CPU, because the GPU failed: %s", error)
        return False
    if difference:
        _LOG.warning("voxelizing on the CPU, because the GPU disagrees with it: %s", difference)
    return not difference


def _difference() -> str:
    """Describe the difference between GPU and CPU for a textured triangle soup; empty if they agree."""
    rng = np.random.default_rng(0)
    count, resolution = 40, 12
    corners = rng.uniform(-0.5, 0.5, (count, 1, 3)) + rng.uniform(-0.2, 0.2, (count, 3, 3))
    vertices = np.clip(corners, -0.5, 0.5).astype(np.float32).reshape(-1, 3)
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    image = rng.integers(0, 256, (8, 8, 4), np.uint8)
    materials = material_table([Material(base_color_texture=Texture(0), roughness=0.5)], [image])
    uvs = rng.uniform(-1.0, 2.0, (1, count, 3, 2)).astype(np.float32)
    ids = np.zeros(count, np.int32)
    soup = (vertices, faces, edges, resolution, QuadricWeights(), materials, uvs, ids, np.zeros((0, 3, 4), np.float32))
    grid, attributes = convert_on_cpu(*soup)
    return difference_of((grid.coords, grid.dual_vertices, grid.intersected, attributes), convert_on_gpu(*soup))


def difference_of(expected: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> str:
    """Describe the difference between coords, dual vertices, flags and attributes; empty if it is rounding."""
    if not np.array_equal(expected[0], found[0]) or not np.array_equal(expected[2], found[2]):
        return "different voxels or crossed edges"
    moved = np.abs(expected[1] - found[1]).max(initial=0.0)
    if moved > 1e-3:
        return f"a dual vertex differs by {moved:.4f} voxels"
    colors = np.abs(expected[3].astype(int) - found[3].astype(int)).max(initial=0)
    return f"an attribute differs by {colors}/255" if colors > 1 else ""
