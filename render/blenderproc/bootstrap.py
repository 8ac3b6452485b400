"""BlenderProc from the package index inside pip's Blender, without its launcher.

BlenderProc 2.8 expects to be started by its own command, which downloads a Blender, installs packages into it and sets
an environment variable. Here Blender is the `bpy` package, and the other packages come with the extra `blenderproc`.
All the workarounds are in this file, and are undone once BlenderProc is imported.
"""

from __future__ import annotations

import atexit
import contextlib
import functools
import importlib.util
import os
import sys
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np

_INSIDE_VARIABLE = "INSIDE_OF_THE_INTERNAL_BLENDER_PYTHON_ENVIRONMENT"
_EXR_VARIABLE = "OPENCV_IO_ENABLE_OPENEXR"
_SETUP_MODULE = "blenderproc.python.utility.SetupUtility"


@functools.cache
def load_blenderproc() -> Any:
    """Import the `blenderproc` module; the first call takes about six seconds.

    Raises:
        ModuleNotFoundError: if BlenderProc, or a package that it uses without declaring it, is not installed.
    """
    spec = importlib.util.find_spec("blenderproc")
    if spec is None or spec.origin is None:
        raise ModuleNotFoundError("No module named 'blenderproc'", name="blenderproc")
    site_packages = os.path.abspath(Path(spec.origin).parent.parent)
    with _restored_environment():
        os.environ[_INSIDE_VARIABLE] = "1"
        sys.path.insert(0, site_packages)  # its __init__ removes the first such entry
        sys.modules[_SETUP_MODULE] = _setup_stub()
        import blenderproc
    atexit.register(_forget)
    return blenderproc


def start_scene() -> None:
    """Start an empty scene with BlenderProc's defaults, like `blenderproc.init()` but repeatable.

    `init` itself refuses a second call, and selects and prints devices before the caller has chosen them.
    """
    import bpy

    bproc = load_blenderproc()
    from blenderproc.python.utility.GlobalStorage import GlobalStorage
    from blenderproc.python.utility.Initializer import _Initializer

    # Outputs and switches that refer to nodes of the previous scene.
    GlobalStorage._storage_dict.clear()
    bproc.clean_up(clean_up_camera=True)
    bpy.context.scene.render.engine = "CYCLES"
    _Initializer.set_default_parameters()
    GlobalStorage.set("bproc_init_complete", True)


def write_hdf5(folder: Path, data: Mapping[str, Sequence[Any]]) -> None:
    """Call `blenderproc.writer.write_hdf5`: key -> one array per view to one file per view.

    That function takes the number of views from Blender's scene, and uses a name that numpy 2 removed.

    Raises:
        OSError: if storage fails.
    """
    import bpy

    bproc = load_blenderproc()
    from blenderproc.python.writer import WriterUtility

    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, max(map(len, data.values()))
    numpy: Any = np
    added = not hasattr(numpy, "string_")
    if added:
        numpy.string_ = np.bytes_
    library, WriterUtility.h5py = WriterUtility.h5py, SimpleNamespace(File=_file_in_memory)
    try:
        bproc.writer.write_hdf5(str(folder), dict(data))
    finally:
        WriterUtility.h5py = library
        if added:
            del numpy.string_


@contextlib.contextmanager
def _file_in_memory(path: str, mode: str) -> Iterator[Any]:
    """`h5py.File`, written to disk at once when it is closed: HDF5 1.14 crashes the process if the disk is full."""
    import h5py

    with h5py.File(path, mode, driver="core", backing_store=False) as file:
        yield file
        file.flush()
        image = file.id.get_file_image()
    Path(path).write_bytes(image)


def _forget() -> None:
    """Empty BlenderProc's modules: objects they hold keep Blender alive past the end of Python, where it crashes."""
    load_blenderproc.cache_clear()
    for name, module in list(sys.modules.items()):
        if name.split(".")[0] == "blenderproc":
            vars(module).clear()


def _setup_stub() -> ModuleType:
    """A replacement for the module that installs packages with pip as soon as it is called."""

    class SetupUtility:
        @staticmethod
        def setup(*_: object, **__: object) -> list[str]:
            return []

        @staticmethod
        def setup_pip(user_required_packages: Sequence[str] = (), *_: object, **__: object) -> None:
            raise ModuleNotFoundError(f"BlenderProc wants to install {', '.join(user_required_packages)}")

    module = ModuleType(_SETUP_MODULE)
    module.SetupUtility = SetupUtility  # type: ignore[attr-defined]
    return module


@contextlib.contextmanager
def _restored_environment() -> Iterator[None]:
    path, variables = list(sys.path), dict(os.environ)
    try:
        yield
    finally:
        sys.path[:] = path
        os.environ.clear()
        os.environ.update(variables)
        os.environ[_EXR_VARIABLE] = "1"  # OpenCV asks whenever it opens such a file
