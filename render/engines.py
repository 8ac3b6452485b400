"""The render engines by name: all take the same arguments and yield the same kind of images."""

from __future__ import annotations

import functools
import importlib.util
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Literal, Protocol, get_args

from helix4d.assets import Clip
from helix4d.core import ConfigError
from helix4d.core.extras import missing_package
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import NO_MAPS, EnvironmentMap
from helix4d.render.scene.images import RenderedImage
from helix4d.render.scene.lighting import Lights
from helix4d.render.scene.settings import RenderSettings

EngineName = Literal["cycles", "raster", "blenderproc"]

EngineOption = Literal["auto", "cycles", "raster", "blenderproc"]
"""An engine, or auto: the choice of `helix4d.render.engine_choice` for each clip."""

# Modules that an engine needs; BlenderProc uses more than it declares.
_LIBRARIES = {
    "auto": ("bpy", "OpenEXR", "moderngl"),
    "cycles": ("bpy", "OpenEXR"),
    "raster": ("moderngl",),
    "blenderproc": (
        "bpy",
        "blenderproc",
        "cv2",
        "git",
        "h5py",
        "imageio",
        "png",
        "scipy",
        "skimage",
        "sklearn",
        "trimesh",
    ),
}


class RenderViews(Protocol):
    """The signature of `helix4d.render.cycles.engine.render_views`."""

    def __call__(
        self,
        clip: Clip,
        cameras: Sequence[Camera],
        lights: Sequence[Lights],
        settings: RenderSettings | None = None,
        frames: Sequence[int] | None = None,
        maps: Mapping[str, EnvironmentMap] = NO_MAPS,
    ) -> Iterator[RenderedImage]: ...


def load_engine(name: EngineName, hdf5: Path | None = None) -> RenderViews:
    """Import an engine and return its `render_views`; this is what starts Blender or OpenGL.

    Args:
        name: the engine's name.
        hdf5: a folder for BlenderProc's files, which only that engine writes.

    Raises:
        ConfigError: if the engine does not exist, lacks a library, or does not write HDF5.
    """
    check_engine(name, hdf5)
    if name == "cycles":
        from helix4d.render.cycles.engine import render_views as cycles

        return cycles
    if name == "raster":
        from helix4d.render.raster.engine import render_views as raster

        return raster
    from helix4d.render.blenderproc.engine import render_views as blenderproc

    return functools.partial(blenderproc, hdf5=hdf5)


def check_engine(name: EngineOption, hdf5: Path | None = None) -> None:
    """Run the checks of `load_engine` without importing the engine; auto needs both engines that it chooses from.

    Raises:
        ConfigError: as in `load_engine`.
    """
    if name not in get_args(EngineOption):
        raise ConfigError(f"engine {name!r}: expected one of {', '.join(get_args(EngineOption))}")
    if hdf5 is not None and name != "blenderproc":
        raise ConfigError(f"engine {name}: only blenderproc writes HDF5 files")
    missing = [module for module in _LIBRARIES[name] if importlib.util.find_spec(module) is None]
    if missing:
        extras = "curate" if name == "cycles" else f"curate,{'raster' if name == 'auto' else name}"
        raise missing_package(f"engine {name}", *missing, extras=extras)
