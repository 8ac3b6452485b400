"""Conversion on a GPU: three passes of CUDA kernels.

Crossings first mark bricks, then voxels, so that counting bits numbers the voxels in Morton order. The third pass sums
in fixed point, so that results do not depend on the order of threads. The counting, over a few megabytes, is done by
numpy. docs/voxelize.md explains the choice of numba over torch.
"""

from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

from helix4d.voxelize.convert.grid import QuadricWeights
from helix4d.voxelize.convert.surface import NO_MATERIALS, MaterialTable
from helix4d.voxelize.errors import outside_error
from helix4d.voxelize.ovoxel import grid_side, spread_table

_THREADS = 128
_FULL = 1 << 20
"""Threads that keep a large GPU busy; meshes with few triangles use several threads per triangle."""


def convert_on_gpu(
    vertices: np.ndarray,
    faces: np.ndarray,
    edges: np.ndarray,
    resolution: int,
    weights: QuadricWeights,
    materials: MaterialTable | None,
    uvs: np.ndarray,
    material_ids: np.ndarray,
    corner_colors: np.ndarray,
    names: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """`conversion.convert` on the GPU, with contiguous arguments; returns coords, dual vertices, flags and attributes.

    Raises:
        GeometryError: if a face is not finite or outside the cube.
    """
    from numba import cuda

    from helix4d.voxelize.kernels import gpu_kernels as kernels

    if len(faces) == 0:
        return _host_arrays(0, 0)
    side = grid_side(resolution)
    spread = cuda.to_device(spread_table(side))
    points, triangles = cuda.to_device(vertices), cuda.to_device(faces)
    bricks = cuda.to_device(np.zeros((side // 8) ** 3, np.int32))
    bad = cuda.to_device(np.array([np.iinfo(np.int64).max]))
    lanes = int(min(max(_FULL // len(faces), 1), 1024))
    shading = (
        *(cuda.to_device(np.ascontiguousarray(array)) for array in (uvs, corner_colors, material_ids)),
        *_resident(NO_MATERIALS if materials is None else materials),
    )

    def scatter(phase: int, masks: Any, starts: Any, sums: Any, flags: Any, colors: Any) -> None:
        kernels.scatter[_blocks(len(faces) * lanes), _THREADS](
            phase, lanes, points, triangles, resolution, weights.face, weights.regularization, spread, bricks, masks,
            starts, sums, flags, colors, bad, *shading,
        )  # fmt: skip

    no_starts, no_sums = cuda.device_array((1, 16), np.int32), cuda.device_array((0, 10), np.int64)
    no_flags, no_colors = cuda.device_array(0, np.int32), cuda.device_array((0, 7), np.int64)
    masks = cuda.to_device(np.zeros((1, 16), np.uint32))
    scatter(kernels.MARK_BRICKS, masks, no_starts, no_sums, no_flags, no_colors)
    face = int(bad.copy_to_host()[0])
    if face < len(faces):
        raise outside_error(face, vertices, faces, names)
    places = np.flatnonzero(bricks.copy_to_host())
    numbers = np.zeros(bricks.shape, np.int32)
    numbers[places] = np.arange(1, len(places) + 1)
    bricks.copy_to_device(numbers)
    masks = cuda.to_device(np.zeros((len(places) + 1, 16), np.uint32))
    scatter(kernels.MARK_VOXELS, masks, no_starts, no_sums, no_flags, no_colors)
    counts = np.bitwise_count(masks.copy_to_host()).astype(np.int32)
    starts = np.cumsum(counts, dtype=np.int32).reshape(counts.shape) - counts
    count = int(counts.sum())
    starts = cuda.to_device(starts)
    sums = cuda.to_device(np.zeros((count, 10), np.int64))
    flags = cuda.to_device(np.zeros(count, np.int32))
    colors = no_colors if materials is None else cuda.to_device(np.zeros((count, 7), np.int64))
    if count:
        scatter(kernels.ACCUMULATE, masks, starts, sums, flags, colors)
    if count and weights.boundary > 0.0 and len(edges):
        kernels.add_boundary[_blocks(len(edges)), _THREADS](
            points, cuda.to_device(edges), resolution, weights.boundary, spread, bricks, masks, starts, sums
        )
    results = _host_arrays(count, 0 if materials is None else count)
    if count:
        out = [cuda.device_array(array.shape, array.dtype) for array in results]
        where = cuda.to_device(np.concatenate([[0], places]).astype(np.int32))
        kernels.emit[_blocks(16 * (len(places) + 1)), _THREADS](
            weights.regularization, where, masks, starts, sums, flags, colors, *out
        )
        for device, host in zip(out, results, strict=True):
            if host.size:
                device.copy_to_host(host)
    return results


@lru_cache(maxsize=2)
def _resident(materials: MaterialTable) -> tuple[Any, ...]:
    """Copy the material tables to the device; those of the last two clips stay there."""
    from numba import cuda

    tables = (materials.layout, materials.transforms, materials.factors, materials.texels)
    return tuple(cuda.to_device(np.ascontiguousarray(table)) for table in tables)


def _host_arrays(count: int, attributes: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    return (
        np.empty((count, 3), np.int32),
        np.empty((count, 3), np.float32),
        np.empty((count, 3), np.bool_),
        np.empty((attributes, 6), np.uint8),
    )


def _blocks(threads: int) -> int:
    return (threads + _THREADS - 1) // _THREADS
