"""numba's CUDA target, imported from here so that numba-cuda compiles under numpy 2.5.

numba-cuda 0.30.4 implements `np.row_stack`, which numpy 2.5 removed, so the module that defines its array operations
fails to import and no kernel compiles. The name exists here only while that module is imported.
"""

from __future__ import annotations

import importlib
import warnings
from importlib.util import find_spec
from typing import Any

import numpy as np
from numba import cuda

from helix4d.voxelize.kernels.compilation import SIMULATED


def _removed_function(*arguments: Any) -> Any:
    raise NotImplementedError("np.row_stack was removed in numpy 2.5")


def _import_array_operations(module: str) -> None:
    """Import numba-cuda's array operations, with a placeholder for the function that numpy no longer has."""
    name = "row_stack"
    missing = not hasattr(np, name)
    if missing:
        setattr(np, name, _removed_function)
    try:
        importlib.import_module(module)
    finally:
        if missing:
            delattr(np, name)


# One block is right for a short scan, and a small mesh has few threads.
warnings.filterwarnings("ignore", message="Grid size .* will likely result in GPU under-utilization")
# Where the redirection of numba-cuda is not active, `numba.cuda` is numba's built-in target and needs no repair.
if not SIMULATED and find_spec("numba.cuda.np") is not None:
    _import_array_operations("numba.cuda.np.arrayobj")

from numba.cuda.cudadrv.driver import CudaAPIError  # noqa: E402 (after the repair)

__all__ = ["CudaAPIError", "cuda"]
