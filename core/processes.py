"""Environment for child processes, so that they import the same `helix4d` as their parent, optionally without secrets.

The parent's copy may be a checkout, an installed wheel or the working directory of a Ray job.
"""

from __future__ import annotations

import os
from pathlib import Path

import helix4d

_NAMES = frozenset(
    {
        *("PATH", "HOME", "USER", "LOGNAME", "LANG", "LANGUAGE", "TZ", "TMPDIR", "TEMP", "TMP", "VIRTUAL_ENV"),
        *("LD_LIBRARY_PATH", "LD_PRELOAD", "DISPLAY", "OCIO"),
    }
)
_PREFIXES = (
    *(
        "HELIX4D_",
        "LC_",
        "XDG_",
        "PYTHON",
        "CONDA_PREFIX",
        "COVERAGE_",
        "NUMBA_",
        "OMP_",
        "MKL_",
        "OPENBLAS_",
        "KMP_",
        "GOMP_",
    ),
    *("CUDA_", "NVIDIA_", "HIP_", "ROCR_", "ROCM_", "ONEAPI_", "SYCL_", "ZE_"),
    *("EGL_", "__EGL", "__GLX", "__NV", "LIBGL_", "MESA_", "GALLIUM_", "LP_", "VK_", "CYCLES_", "BLENDER_"),
)


def python_path() -> str:
    """Return a `PYTHONPATH` that starts with the folder containing `helix4d`, followed by this process's own."""
    root = Path(helix4d.__file__).resolve().parent.parent
    return os.pathsep.join([str(root), *filter(None, [os.environ.get("PYTHONPATH")])])


def child_environment(**variables: str) -> dict[str, str]:
    """Return this process's environment, set up for `python -m helix4d`, with `variables` added or replaced."""
    return {**os.environ, "PYTHONPATH": python_path(), **variables}


def child_environment_without_secrets(**variables: str) -> dict[str, str]:
    """Return `child_environment` for a process that reads untrusted files.

    It keeps only what Python, numerical libraries, graphics drivers and Blender use, so it contains no tokens of the
    hub, a cloud or a cluster, whatever their names.
    """
    kept = {name: value for name, value in os.environ.items() if name in _NAMES or name.startswith(_PREFIXES)}
    return {**kept, "PYTHONPATH": python_path(), **variables}
