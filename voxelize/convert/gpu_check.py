"""Decides whether to convert on the GPU, after a self-check that compares it with the CPU; says why not."""

from __future__ import annotations

import ctypes
import logging
from dataclasses import dataclass
from functools import lru_cache
from importlib.util import find_spec

import numpy as np

from helix4d.assets import Material, Texture
from helix4d.core import first_line
from helix4d.voxelize.convert.cpu import convert_on_cpu
from helix4d.voxelize.convert.grid import Attributes, Device, DualGrid, QuadricWeights
from helix4d.voxelize.convert.surface import material_table
from helix4d.voxelize.convert.triangles import Triangles
from helix4d.voxelize.errors import GpuError
from helix4d.voxelize.kernels.compilation import SIMULATED

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class GpuProblem:
    """Why the GPU cannot be used, and whether there is one."""

    reason: str
    device_exists: bool


def use_gpu(device: Device) -> bool:
    """Whether to convert on the GPU. The first time that "auto" chooses the CPU, one line of the log says why.

    Raises:
        GpuError: if the device is "gpu" and cannot be used.
        ValueError: if there is no such device.
    """
    if device not in ("auto", "cpu", "gpu"):
        raise ValueError(f"device {device!r}: must be auto, cpu or gpu")
    if device == "cpu":
        return False
    problem = gpu_problem()
    if problem is None:
        return True
    if device == "gpu":
        raise GpuError(f"cannot voxelize on a GPU: {problem.reason}")
    _log_once(problem)
    return False


@lru_cache(maxsize=1)
def gpu_problem() -> GpuProblem | None:
    """Why no GPU can be used by this process; None if one converts a small mesh like the CPU."""
    if not SIMULATED:
        missing = _missing_device()
        if missing:
            return GpuProblem(missing, device_exists=False)
        if find_spec("numba_cuda") is None:
            return GpuProblem("numba-cuda is not installed: install the extra gpu-cu12 or gpu-cu13", device_exists=True)
    try:
        difference = _difference()
    except Exception as error:  # noqa: BLE001 (drivers, toolkits and compilers fail in many ways)
        reason = f"the kernels failed to compile or run: {type(error).__name__}: {first_line(error)}"
        return GpuProblem(reason, device_exists=True)
    return GpuProblem(f"it disagrees with the CPU: {difference}", device_exists=True) if difference else None


@lru_cache(maxsize=1)
def _log_once(problem: GpuProblem) -> None:
    level = logging.WARNING if problem.device_exists else logging.INFO
    _LOG.log(level, "voxelizing on the CPU: %s", problem.reason)


def _missing_device() -> str:
    """Why the CUDA driver offers this process no device; empty if it offers one. Independent of numba."""
    try:
        driver = ctypes.CDLL("libcuda.so.1")
    except OSError:
        return "there is no NVIDIA driver (libcuda.so.1)"
    count = ctypes.c_int()
    code = driver.cuInit(0) or driver.cuDeviceGetCount(ctypes.byref(count))
    if code not in (0, _NO_DEVICE):
        return f"the NVIDIA driver failed to start: CUDA error {code}"
    return "" if count.value else "the NVIDIA driver finds no device, or CUDA_VISIBLE_DEVICES hides it"


_NO_DEVICE = 100
"""CUDA_ERROR_NO_DEVICE."""


def _difference(count: int = 40) -> str:
    """Describe the difference between GPU and CPU for `count` textured triangles; empty if they agree.

    Corners on the grid are compared, too: many boxes then touch a triangle without overlapping it, so rounding
    that differs from the CPU's is detected.
    """
    from helix4d.voxelize.convert.gpu import convert_on_gpu

    resolution, weights = 16, QuadricWeights()
    vertices, triangles = triangle_soup(count)
    frames = [vertices, np.round(vertices * resolution) / np.float32(resolution), vertices]
    found = convert_on_gpu([(frame, triangles) for frame in frames], resolution, weights, arrays_of)
    if not all(map(np.array_equal, found[0], found[2])):
        return "two conversions of one mesh differ"
    expected = (arrays_of(*convert_on_cpu(frame, triangles, resolution, weights)) for frame in frames[:2])
    return next(filter(None, map(difference_of, expected, found)), "")


def arrays_of(grid: DualGrid, attributes: Attributes) -> tuple[np.ndarray, ...]:
    """The arrays that `difference_of` compares."""
    return grid.coords, grid.dual_vertices, grid.intersected, attributes.base_color, attributes.surface


def triangle_soup(count: int) -> tuple[np.ndarray, Triangles]:
    """(3 * count, 3) float32 vertices of random separate triangles, with a texture."""
    rng = np.random.default_rng(0)
    corners = rng.uniform(-0.5, 0.5, (count, 1, 3)) + rng.uniform(-0.2, 0.2, (count, 3, 3))
    vertices = np.clip(corners, -0.5, 0.5).astype(np.float32).reshape(-1, 3)
    faces = np.arange(3 * count, dtype=np.int32).reshape(-1, 3)
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    image = rng.integers(0, 256, (8, 8, 4), np.uint8)
    materials = material_table([Material(base_color_texture=Texture(0), roughness=0.5)], [image])
    uvs = rng.uniform(-1.0, 2.0, (1, count, 3, 2)).astype(np.float32)
    return vertices, Triangles(faces, edges, None, materials, uvs, np.zeros(count, np.int32))


def difference_of(expected: tuple[np.ndarray, ...], found: tuple[np.ndarray, ...]) -> str:
    """Describe the difference between coords, dual vertices, flags and attributes; empty if it is rounding.

    Coords and flags must be equal bit by bit. The CPU sums in float32 and the GPU does not, so dual vertices may differ
    by 1e-3 voxel and attributes by 1/255.
    """
    if not np.array_equal(expected[0], found[0]) or not np.array_equal(expected[2], found[2]):
        return "different voxels or crossed edges"
    moved = np.abs(expected[1] - found[1]).max(initial=0.0)
    if not moved <= 1e-3:
        return f"a dual vertex differs by {moved:.4f} voxels"
    pairs = zip(expected[3:], found[3:], strict=True)
    colors = max((np.abs(a.astype(int) - b.astype(int)).max(initial=0) for a, b in pairs), default=0)
    return f"an attribute differs by {colors}/255" if colors > 1 else ""
