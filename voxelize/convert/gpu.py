"""Conversion on a GPU: frames alternate between two streams, so that transfers overlap with computation.

A frame uploads its vertices only; what its topology shares stays on the device. Crossings set bits in a dense mask of
the cube, the bits are numbered in Morton order, and the sums over voxels are in fixed point, so that results do not
depend on the order of threads. Clearing, counting and numbering happen on the device: the host reads two integers per
frame. docs/voxelize.md explains the choice of numba and estimates the time.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, TypeVar

import numpy as np

from helix4d.voxelize.convert.grid import Attributes, DualGrid, QuadricWeights, grid_scale
from helix4d.voxelize.convert.surface import MaterialTable
from helix4d.voxelize.convert.triangles import Triangles
from helix4d.voxelize.errors import GpuError, outside_error
from helix4d.voxelize.kernels import gpu_count_kernels as counting
from helix4d.voxelize.kernels import gpu_kernels as kernels
from helix4d.voxelize.kernels.cuda_target import CudaAPIError, cuda
from helix4d.voxelize.ovoxel import grid_side, spread_table

T = TypeVar("T")

_THREADS = 128
_FULL = 1 << 19
"""Threads that keep a large GPU busy; meshes with few triangles use several threads per triangle."""
_SPARE = 1.25
"""Room for voxels, relative to the largest frame so far: the voxels of a moving mesh vary from frame to frame."""
_STREAMS = 2

_LOCK = threading.Lock()
_SLOTS: list[_Slot] = []
"""Streams and buffers, kept for the next clip because page-locking memory takes as long as converting a frame."""


def convert_on_gpu(
    frames: Sequence[tuple[np.ndarray, Triangles]],
    resolution: int,
    weights: QuadricWeights,
    result: Callable[[DualGrid, Attributes], T],
) -> list[T]:
    """`conversion.convert` on the GPU for each frame: contiguous vertices (V, 3) float32, and triangles.

    Frames that share a `Triangles` object share its copy on the device. `result` makes a frame's result from its grid
    and attributes, while the next frame is computed. Threads of one process take turns.

    Raises:
        GeometryError: if a face of a frame is not finite or outside the cube.
        GpuError: if the driver reports an error, such as too little memory.
    """
    with _LOCK:
        try:
            return _converted(frames, resolution, weights, result)
        except BaseException as error:
            _SLOTS.clear()  # frames in flight may still use the buffers
            if isinstance(error, CudaAPIError):
                raise GpuError(f"converting at resolution {resolution} on the GPU failed: {error}") from error
            raise


def _converted(
    frames: Sequence[tuple[np.ndarray, Triangles]],
    resolution: int,
    weights: QuadricWeights,
    result: Callable[[DualGrid, Attributes], T],
) -> list[T]:
    while len(_SLOTS) < _STREAMS:
        _SLOTS.append(_Slot())
    resident: dict[int, _Resident] = {}
    results: list[T] = []
    in_flight: deque[_Slot] = deque()
    for number, (vertices, triangles) in enumerate(frames):
        if len(in_flight) == _STREAMS:
            results.append(result(*in_flight.popleft().finish()))
        if id(triangles) not in resident:
            resident[id(triangles)] = _Resident(triangles, resolution)
        slot = _SLOTS[number % _STREAMS]
        slot.begin(vertices, resident[id(triangles)], resolution, weights)
        in_flight.append(slot)
    return [*results, *(result(*slot.finish()) for slot in in_flight)]


class _Resident:
    """Data shared by frames, on the device."""

    def __init__(self, triangles: Triangles, resolution: int) -> None:
        self.triangles = triangles
        stream = cuda.stream()  # the default stream would wait for the frames in flight
        shared = (triangles.faces, triangles.edges, spread_table(grid_side(resolution)))
        shading = (triangles.uvs, triangles.colors, triangles.material_ids)
        self.faces, self.edges, self.spread = (_upload(array, stream) for array in shared)
        self.shading = (*(_upload(array, stream) for array in shading), *_resident_materials(triangles.table))
        stream.synchronize()


@lru_cache(maxsize=2)
def _resident_materials(materials: MaterialTable) -> tuple[Any, ...]:
    """Copy a material table to the device; the tables of the last two clips are cached."""
    stream = cuda.stream()
    tables = (materials.layout, materials.transforms, materials.factors, materials.texels)
    copies = tuple(_upload(table, stream) for table in tables)
    stream.synchronize()
    return copies


class _Slot:
    """A stream, with the buffers of the one frame at a time that it converts; buffers grow and are reused."""

    def __init__(self) -> None:
        self.stream = cuda.stream()
        self.state = cuda.device_array(2, np.int64)
        self.host_state = cuda.pinned_array(2, np.int64)
        self.no_colors = cuda.device_array((0, 7), np.int64)
        self.host_vertices, self.all_masks = np.empty(0), np.empty(0)
        self._fit_vertices(1)
        self._fit_grid(1)
        self._fit_voxels(1)

    def begin(self, vertices: np.ndarray, resident: _Resident, resolution: int, weights: QuadricWeights) -> None:
        """Queue a frame on the stream without waiting for it."""
        self.vertices, self.resident, self.resolution, self.weights = vertices, resident, resolution, weights
        faces = len(resident.triangles.faces)
        if faces == 0:
            return
        words = grid_side(resolution) ** 3 // 32
        chunks = _quotient(words, counting.CHUNK)
        self._fit_vertices(len(vertices))
        self._fit_grid(words)
        self.masks, self.starts, self.counts = self.all_masks[:words], self.all_starts[:words], self.all_counts[:chunks]
        self.lanes = 1 << min(max(_FULL // faces, 1).bit_length() - 1, 10)
        self.points = self.device_vertices[: len(vertices)]
        self.host_vertices[: len(vertices)] = vertices
        self.points.copy_to_device(self.host_vertices[: len(vertices)], self.stream)
        self._launch(counting.clear_grid, min(words, _FULL), self.masks, self.state)
        self._launch(
            kernels.mark, faces * self.lanes,
            self.lanes, self.points, resident.faces, resolution, grid_scale(resolution), resident.spread, self.masks,
            self.state,
        )  # fmt: skip
        self._launch(counting.count_voxels, chunks, self.masks, self.counts)
        counting.scan_counts[1, counting.SCAN_THREADS, self.stream](self.counts, self.state)
        self.state.copy_to_host(self.host_state, self.stream)
        self._sum()

    def finish(self) -> tuple[DualGrid, Attributes]:
        """Wait for the frame and return its grid and attributes."""
        triangles = self.resident.triangles
        self.stream.synchronize()
        bad, count = (int(value) for value in self.host_state) if len(triangles.faces) else (counting.NO_FACE, 0)
        if bad != counting.NO_FACE:
            raise outside_error(bad, self.vertices, triangles.faces, triangles.names)
        if count > self.room:  # the first frame, or one far larger than those before: nothing was summed
            self._fit_voxels(int(count * _SPARE))
            self._sum()
        rows = 0 if triangles.materials is None else count
        *parts, surface = zip(self.results, self.host_results, strict=True)
        lengths = (count, count, count, rows)
        copies = [(device[:n], host[:n]) for (device, host), n in zip(parts, lengths, strict=True) if n]
        if rows:
            copies += [(surface[0][k, :rows], surface[1][k, :rows]) for k in range(3)]
        for device, host in copies:
            device.copy_to_host(host, self.stream)
        self.stream.synchronize()
        coords, dual, intersected, base_color = (host[:n].copy() for (_, host), n in zip(parts, lengths, strict=True))
        attributes = Attributes(base_color, surface[1][:, :rows].copy())
        return DualGrid(self.resolution, coords, dual, intersected), attributes

    def _sum(self) -> None:
        """Queue the passes that write per voxel; they do nothing if there are more voxels than room."""
        shared, weights = self.resident, self.weights
        colors = self.no_colors if shared.triangles.materials is None else self.colors
        self._launch(
            counting.number_voxels, len(self.counts), self.masks, self.counts, self.state, self.starts, self.codes
        )
        self._launch(counting.clear_voxels, min(10 * self.room, _FULL), self.state, self.sums, self.flags, colors)
        self._launch(
            kernels.accumulate, len(shared.triangles.faces) * self.lanes,
            self.lanes, self.points, shared.faces, self.resolution, grid_scale(self.resolution), weights.face,
            weights.regularization, shared.spread, self.masks, self.starts, self.state, self.sums, self.flags, colors,
            *shared.shading,
        )  # fmt: skip
        if weights.boundary > 0.0 and len(shared.triangles.edges):
            self._launch(
                kernels.add_boundary, len(shared.triangles.edges), self.points, shared.edges, self.resolution,
                weights.boundary, shared.spread, self.masks, self.starts, self.state, self.sums,
            )  # fmt: skip
        self._launch(
            kernels.emit, self.room,
            weights.regularization, self.state, self.codes, self.sums, self.flags, colors, *self.results,
        )  # fmt: skip

    def _launch(self, kernel: Any, threads: int, *arguments: Any) -> None:
        kernel[_quotient(threads, _THREADS), _THREADS, self.stream](*arguments)

    def _fit_vertices(self, count: int) -> None:
        if count > len(self.host_vertices):
            self.device_vertices = cuda.device_array((count, 3), np.float32)
            self.host_vertices = cuda.pinned_array((count, 3), np.float32)

    def _fit_grid(self, words: int) -> None:
        if words > len(self.all_masks):
            self.all_masks = cuda.device_array(words, np.uint32)
            self.all_starts = cuda.device_array(words, np.int32)
            self.all_counts = cuda.device_array(_quotient(words, counting.CHUNK), np.int32)

    def _fit_voxels(self, room: int) -> None:
        self.room = room
        self.codes = cuda.device_array(room, np.int32)
        self.sums = cuda.device_array((room, 10), np.int64)
        self.flags = cuda.device_array(room, np.int32)
        self.colors = cuda.device_array((room, 7), np.int64)
        voxels = (room, 3)
        kinds = (
            (voxels, np.int32),
            (voxels, np.float32),
            (voxels, np.bool_),
            (voxels, np.uint8),
            ((3, room), np.uint8),
        )
        self.results = [cuda.device_array(shape, dtype) for shape, dtype in kinds]
        self.host_results = [cuda.pinned_array(shape, dtype) for shape, dtype in kinds]


def _upload(array: np.ndarray, stream: Any) -> Any:
    return cuda.to_device(np.ascontiguousarray(array), stream)


def _quotient(count: int, size: int) -> int:
    return (count + size - 1) // size
