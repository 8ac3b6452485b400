"""Compile every CUDA kernel of the voxelizer without a GPU: `python -m tests.voxelize.compile_gpu_kernels`.

Prints, per kernel and architecture, registers, bytes of local memory per thread, bytes spilled and bytes of shared
memory, from ptxas. Needs no driver, but the extra gpu-cu13 and the wheel
nvidia-cuda-nvcc, or gpu-cu12 and nvidia-cuda-nvcc-cu12.
"""

from __future__ import annotations

import re
import subprocess
import sys
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import patch

from numba import types

from helix4d.voxelize.kernels import gpu_count_kernels, gpu_kernels
from helix4d.voxelize.kernels.cuda_target import cuda

ARCHITECTURES = ((8, 0), (9, 0))


def _array(dtype: Any, dimensions: int = 1) -> Any:
    return types.Array(dtype, dimensions, "C")


_I = types.int64
_F = types.float64
_VERTICES, _INDICES, _SPREAD = _array(types.float32, 2), _array(types.int32, 2), _array(types.int32, 2)
_MASKS, _STARTS, _COUNTS, _CODES = _array(types.uint32), *(_array(types.int32),) * 3
_SUMS, _COLORS, _FLAGS, _STATE = (
    _array(types.int64, 2),
    _array(types.int64, 2),
    _array(types.int32),
    _array(types.int64),
)
_SHADING = (
    _array(types.float32, 4), _array(types.float32, 3), _array(types.int32), _array(types.int64, 2),
    _array(_F, 2), _array(_F, 2), _array(types.uint32),
)  # fmt: skip
_RESULTS = (
    _array(types.int32, 2), _array(types.float32, 2), _array(types.boolean, 2), *(_array(types.uint8, 2),) * 2,
)  # fmt: skip
SIGNATURES = {
    gpu_count_kernels.clear_grid: (_MASKS, _STATE),
    gpu_count_kernels.count_voxels: (_MASKS, _COUNTS),
    gpu_count_kernels.scan_counts: (_COUNTS, _STATE),
    gpu_count_kernels.number_voxels: (_MASKS, _COUNTS, _STATE, _STARTS, _CODES),
    gpu_count_kernels.clear_voxels: (_STATE, _SUMS, _FLAGS, _COLORS),
    gpu_kernels.mark: (_I, _VERTICES, _INDICES, _I, _F, _SPREAD, _MASKS, _STATE),
    gpu_kernels.accumulate: (
        _I, _VERTICES, _INDICES, _I, _F, _F, _F, _SPREAD, _MASKS, _STARTS, _STATE, _SUMS, _FLAGS, _COLORS,
        *_SHADING,
    ),
    gpu_kernels.add_boundary: (_VERTICES, _INDICES, _I, _F, _SPREAD, _MASKS, _STARTS, _STATE, _SUMS),
    gpu_kernels.emit: (_F, _STATE, _CODES, _SUMS, _FLAGS, _COLORS, *_RESULTS),
}  # fmt: skip
"""The types with which `convert.gpu` launches each kernel."""


def main() -> None:
    print(f"{'kernel':14} {'sm':>3} {'registers':>9} {'local':>6} {'spilled':>7} {'shared':>6}")
    for kernel, signature in SIGNATURES.items():
        for major, minor in ARCHITECTURES:
            device = SimpleNamespace(compute_capability=(major, minor))
            with patch("numba.cuda.dispatcher.get_current_device", lambda device=device: device):
                ptx, _ = cuda.compile_ptx(kernel.py_func, signature, cc=(major, minor))
            numbers = usage(ptx, f"sm_{major}{minor}")
            print(f"{kernel.py_func.__name__:14} {major}{minor:<2}", *(f"{n:>8}" for n in numbers), flush=True)


def usage(ptx: str, architecture: str) -> tuple[int, int, int, int]:
    """Registers, and bytes of local memory, of spills and of shared memory of a kernel in PTX."""
    ptxas = find_ptxas()
    if ptxas is None:
        raise FileNotFoundError("no ptxas: install nvidia-cuda-nvcc (CUDA 13) or nvidia-cuda-nvcc-cu12")
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "kernel.ptx")
        path.write_text(ptx)
        command = [str(ptxas), "-v", f"-arch={architecture}", "-o", str(path.with_suffix(".cubin")), str(path)]
        done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        raise RuntimeError(f"ptxas failed for {architecture}: {done.stderr}")

    def number(pattern: str) -> int:
        return sum(int(found) for found in re.findall(pattern, done.stderr))

    return (
        number(r"Used (\d+) registers"),
        number(r"(\d+) bytes stack frame"),
        number(r"(\d+) bytes spill stores"),
        number(r"(\d+) bytes smem"),
    )


def find_ptxas() -> Path | None:
    """The ptxas of the same toolkit as libNVVM: an older one, such as Triton's, may refuse its PTX."""
    paths = (Path(folder, "nvidia", wheel, "bin/ptxas") for folder in sys.path for wheel in ("cuda_nvcc", "cu13"))
    return next((path for path in paths if path.exists()), None)


if __name__ == "__main__":
    main()
