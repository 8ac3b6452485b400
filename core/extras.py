"""Optional packages: which extra of helix4d installs each, and the one message for a package that is missing."""

from __future__ import annotations

import sys

from helix4d.core.errors import ConfigError

_MODULES = {
    "": ("fsspec", "huggingface_hub", "numba", "PIL", "psutil", "requests", "rich", "safetensors", "tyro", "zstandard"),
    "curate": ("bpy", "DracoPy", "httpx2", "meshoptimizer", "OpenEXR", "ray", "webdataset"),
    "model": ("av", "torch", "transformers", "xatlas", "yaml"),
    "evaluation": ("scipy", "trimesh"),
    "raster": ("moderngl",),
    "blenderproc": ("blenderproc", "cv2", "git", "h5py", "imageio", "png", "skimage", "sklearn"),
    "matting": ("rembg",),
    "bench": ("accelerate", "diffusers", "ftfy"),
    "parquet": ("pyarrow",),
    "s3": ("s3fs",),
}
EXTRA_OF = {module: extra for extra, modules in _MODULES.items() for module in modules}
"""Module -> extra that installs it, "" for the packages that every installation has."""


def missing_package(module: str, purpose: str, extras: str | None = None) -> ConfigError:
    """Return the error for a package that is not installed.

    Args:
        module: top-level module that cannot be imported, one of `EXTRA_OF`.
        purpose: what needs it, such as "reading video files"; opens the message.
        extras: extras to name, separated by commas, if the caller needs more than the package's own.
    """
    if module == "bpy" and sys.version_info[:2] != (3, 11):
        return ConfigError(
            f"{purpose}: needs Blender's package bpy 4.2, which exists for Python 3.11 only, and this is Python "
            f"{sys.version_info[0]}.{sys.version_info[1]}: use an environment of Python 3.11"
        )
    return ConfigError(f"{purpose}: the package {module!r} is not installed. {_advice(extras or EXTRA_OF[module])}")


def _advice(extras: str) -> str:
    """Return how to install extras; the package is not on an index, so it is installed from a checkout."""
    what = f"the extra {extras!r}" if extras else "helix4d's dependencies"
    target = f"'.[{extras}]'" if extras else "."
    return f"Install {what} from a checkout: {sys.executable} -m pip install -c constraints.txt -e {target}"
