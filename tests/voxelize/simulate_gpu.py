"""Run the GPU conversion in numba's CUDA simulator: `NUMBA_ENABLE_CUDASIM=1 python -m tests.voxelize.simulate_gpu`.

Prints one line per check; `test_gpu.py` compares them. A separate process, because the simulator is chosen at import.
"""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
from numba.cuda.simulator.cudadrv.devicearray import FakeCUDAArray
from numba.cuda.simulator.kernelapi import FakeCUDAShared

from helix4d.assets import Clip, Frame, Material, Texture, Topology
from helix4d.voxelize import GeometryError, OVoxel, dual_grid, prepare_surface, voxelize_clip
from helix4d.voxelize.convert import gpu, gpu_check
from helix4d.voxelize.kernels import gpu_count_kernels
from helix4d.voxelize.kernels.cuda_target import cuda
from tests.voxelize.meshes import icosphere, quad

RESOLUTION = 8


def main() -> None:
    sys.setswitchinterval(1e-4)  # the simulator polls its threads in a busy loop, from which each must take the GIL
    gpu._FULL, gpu._THREADS, gpu_count_kernels.SCAN_THREADS = 1, 8, 8  # each thread is a Python thread
    allocate_shared_arrays_once()
    print("soup:", gpu_check._difference(12))
    gpu._FULL = 128  # 64 threads per triangle: two rows of 32
    compare_grids()
    gpu._FULL = 1
    clip = changing_clip()
    compare_clips(clip)
    compare_emission()
    leave_the_cube(clip)
    count_uploads(clip)


def allocate_shared_arrays_once() -> None:
    """Let only one thread at a time request a shared array.

    The simulator looks up the block's array and creates it in two steps, so two threads might each create their own. It
    identifies arrays by the line that requests them, here always the same one: a kernel can have one shared array.
    """
    array, lock = FakeCUDAShared.array, threading.Lock()

    def locked(*arguments: Any) -> np.ndarray:
        with lock:
            return array(*arguments)

    FakeCUDAShared.array = locked


def compare_grids() -> None:
    vertices, faces = quad(height=0.0, size=0.75)
    cpu, found = (dual_grid(vertices, faces, RESOLUTION, device=device) for device in ("cpu", "gpu"))  # type: ignore[arg-type]
    both = [(grid.coords, grid.dual_vertices, grid.intersected) for grid in (cpu, found)]
    print("mesh:", gpu_check.difference_of(*both), len(found.coords) > 0)
    grids = [dual_grid(*octahedron(), 12, device=device) for device in ("cpu", "gpu")]  # type: ignore[arg-type]
    both = [(grid.coords, grid.dual_vertices, grid.intersected) for grid in grids]
    print("corners on planes of a grid whose scale is rounded:", gpu_check.difference_of(*both), len(grids[0].coords))
    print("no faces:", len(dual_grid(vertices, faces[:0], RESOLUTION, device="gpu").coords))


def octahedron() -> tuple[np.ndarray, np.ndarray]:
    """(6, 3) float32 vertices, four of them in the planes at the center of the cube, and (8, 3) int32 faces."""
    vertices = 0.35 * np.concatenate([np.eye(3), -np.eye(3)]).astype(np.float32)
    faces = [[0, 1, 2], [1, 3, 2], [3, 4, 2], [4, 0, 2], [1, 0, 5], [3, 1, 5], [4, 3, 5], [0, 4, 5]]
    return vertices.astype(np.float32), np.array(faces, np.int32)


def changing_clip() -> Clip:
    """A moving square, a sphere with far more voxels, no triangles, and the square again."""
    image = np.random.default_rng(0).integers(0, 256, (8, 8, 4), np.uint8)
    square, sphere = textured(*quad(size=0.4)), textured(*icosphere(0, radius=0.25))
    topology = sphere.topology
    empty = Topology(topology.faces[:0], topology.uvs[:, :0], topology.material_ids[:0])
    none = Frame(sphere.vertices, sphere.normals, empty)
    moved = [replace(square, vertices=square.vertices + np.float32(shift)) for shift in (0.0, 0.05, 0.15)]
    frames = (moved[0], moved[1], sphere, none, moved[2])
    textures = {"base_color_texture": Texture(0), "metallic_roughness_texture": Texture(0, nearest=True)}
    return Clip("", 0, np.arange(5.0), frames, (Material(**textures, metallic=0.5),), (image,))


def textured(vertices: np.ndarray, faces: np.ndarray) -> Frame:
    uvs = np.ascontiguousarray(vertices[faces][None, ..., :2])
    return Frame(vertices, vertices, Topology(faces, uvs, np.zeros(len(faces), np.int32)))


def arrays(ovoxel: OVoxel) -> tuple[np.ndarray, ...]:
    attributes = (ovoxel.base_color, ovoxel.metallic, ovoxel.roughness, ovoxel.alpha)
    return ovoxel.coords, ovoxel.dual_vertices, ovoxel.intersected, *attributes


def compare_clips(clip: Clip) -> None:
    cpu, found = (voxelize_clip(clip, RESOLUTION, device=device) for device in ("cpu", "gpu"))  # type: ignore[arg-type]
    differences = [gpu_check.difference_of(arrays(a), arrays(b)) for a, b in zip(cpu, found, strict=True)]
    print("clip:", differences, [len(ovoxel) > 0 for ovoxel in found])
    backwards = voxelize_clip(replace(clip, frames=clip.frames[::-1]), RESOLUTION, device="gpu")[::-1]
    equal = [all(map(np.array_equal, arrays(a), arrays(b))) for a, b in zip(found, backwards, strict=True)]
    print("in reverse, equal bit by bit:", all(equal))


def compare_emission() -> None:
    """A square whose second frame glows."""
    frame = textured(*quad(size=0.4))
    glowing = replace(frame, topology=replace(frame.topology, material_ids=frame.topology.material_ids + np.int32(1)))
    materials = (Material(base_color=(0.2, 0.2, 0.2)), Material(base_color=(0.2, 0.2, 0.2), emissive=(0.5, 0.0, 0.0)))
    clip = Clip("", 0, np.arange(2.0), (frame, glowing), materials)
    cpu, found = (voxelize_clip(clip, RESOLUTION, device=device, emissive="add") for device in ("cpu", "gpu"))  # type: ignore[arg-type]
    differences = [gpu_check.difference_of(arrays(a), arrays(b)) for a, b in zip(cpu, found, strict=True)]
    print("emission:", differences, [int(ovoxel.base_color[0, 0]) for ovoxel in found])


def count_uploads(clip: Clip) -> None:
    """Shared data is uploaded once and then only vertices: no zeros, no counts. The last check, for it wraps numba."""
    frames = tuple(replace(clip.frames[0], vertices=clip.frames[0].vertices * np.float32(s)) for s in (1.0, 0.9, 0.8))
    clip = replace(clip, frames=frames, times=clip.times[:3])
    surface = prepare_surface(clip)
    triangles = surface.prepared(frames[0].topology).triangles
    uploads: list[int] = []

    def counted(function: Callable[..., Any], argument: int) -> Callable[..., Any]:
        def call(*arguments: Any, **options: Any) -> Any:
            uploads.append(np.asarray(arguments[argument]).nbytes)
            return function(*arguments, **options)

        return call

    FakeCUDAArray.copy_to_device = counted(FakeCUDAArray.copy_to_device, 1)
    cuda.to_device = counted(cuda.to_device, 0)
    voxelize_clip(clip, RESOLUTION, surface=surface, device="gpu")
    table = triangles.table
    shared = [triangles.faces, triangles.edges, np.zeros((3, 8), np.int32), triangles.uvs, triangles.material_ids]
    shared += [table.layout, table.transforms, table.factors, table.texels]
    vertices = [frame.vertices.nbytes for frame in frames]
    print("uploads beyond shared data and vertices:", sum(uploads) - sum(a.nbytes for a in shared) - sum(vertices))


def leave_the_cube(clip: Clip) -> None:
    outside = replace(clip.frames[1], vertices=clip.frames[1].vertices + np.float32(1.0))
    try:
        voxelize_clip(replace(clip, frames=(clip.frames[0], outside, *clip.frames[2:])), RESOLUTION, device="gpu")
    except GeometryError as error:
        print("outside:", str(error)[:20])
    (ovoxel,) = voxelize_clip(replace(clip, frames=clip.frames[:1], times=clip.times[:1]), RESOLUTION, device="gpu")
    print("afterwards:", len(ovoxel) > 0)


if __name__ == "__main__":
    main()
