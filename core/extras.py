"""Optional packages: which extra of helix4d installs each, and the one message for a package that is missing."""

from __future__ import annotations

import sys

from helix4d.core.errors import SetupError

_MODULES = {
    "": ("fsspec", "huggingface_hub", "numba", "PIL", "psutil", "requests", "rich", "safetensors", "tyro", "zstandard"),
    "curate": (
        "bpy",
        "DracoPy",
        "httpx2",
        "meshoptimizer",
        "opengl_basisu",
        "OpenEXR",
        "pxr",
        "ray",
        "ufbx",
        "webdataset",
    ),
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


def missing_package(purpose: str, *modules: str, extras: str | None = None) -> SetupError:
    """Return the error for packages that are not installed.

    Args:
        purpose: what needs them, such as "reading video files"; opens the message.
        modules: top-level modules that cannot be imported, of `EXTRA_OF`.
        extras: extras to name, separated by commas, if there is more to install than these packages.
    """
    if "bpy" in modules and sys.version_info[:2] != (3, 11):
        version = ".".join(map(str, sys.version_info[:2]))
        return SetupError(
            f"{purpose}: needs Blender's package bpy 4.2, which exists for Python 3.11 only, but this is Python "
            f"{version}: use an environment with Python 3.11"
        )
    names = ", ".join(modules)
    chosen = extras or ",".join(sorted({EXTRA_OF[module] for module in modules} - {""}))
    what, target = (f"the extra {chosen!r}", f"'.[{chosen}]'") if chosen else ("helix4d's dependencies", ".")
    return SetupError(
        f"{purpose}: cannot import {names}. Install {what}, in a checkout: {sys.executable} -m pip install "
        f"-c constraints.txt -e {target}"
    )
