"""View transforms: scene-linear light becomes the display values that an image stores.

`standard` is sRGB's transfer function, which clips at 1. `filmic` compresses highlights as Blender's view transform of
that name does (look: none, or Medium Contrast). Its tables are read from the installed Blender; this module does not
start it.
"""

from __future__ import annotations

import functools
import importlib.util
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from helix4d.core import ConfigError
from helix4d.core.extras import missing_package

ViewTransform = Literal["standard", "filmic"]

# From Blender's config.ocio: the logarithmic encoding, base 2, and the part of the desaturated range that is displayed.
_LOG_RANGE = (-12.473931188, 12.526068812)
_SHOWN = 0.66
_DESATURATION, _CONTRAST = "filmic_desat_33.cube", "filmic_to_0-70_1-03.spi1d"


def check_view_transform(name: str) -> None:
    """Check that a view transform exists and that its tables are available.

    Raises:
        ConfigError: otherwise.
    """
    if name not in get_args(ViewTransform):
        raise ConfigError(f"view transform {name!r}: expected one of {', '.join(get_args(ViewTransform))}")
    if name == "filmic":
        _filmic_tables()


def to_display(linear: np.ndarray, transform: ViewTransform = "standard") -> np.ndarray:
    """Apply a view transform.

    Args:
        linear: (..., 3) linear values with Rec. 709 primaries; negative values become 0.
        transform: the view transform.

    Returns:
        (..., 3) values in [0, 1].
    """
    if transform == "standard":
        return linear_to_srgb(linear)
    cube, curve = _filmic_tables()
    low, high = _LOG_RANGE
    with np.errstate(divide="ignore"):
        encoded = np.clip((np.log2(np.maximum(linear, 0.0)) - low) / (high - low), 0.0, 1.0)
    shown = np.clip(_in_cube(cube, encoded) / _SHOWN, 0.0, 1.0)
    return np.asarray(np.interp(shown, np.linspace(0.0, 1.0, len(curve)), curve))


def white(transform: ViewTransform) -> float:
    """Return the linear value at which gray is displayed as white; brighter values are clipped."""
    low, high = _LOG_RANGE
    return 1.0 if transform == "standard" else float(2.0 ** (low + _SHOWN * (high - low)))


def linear_to_srgb(linear: np.ndarray) -> np.ndarray:
    """sRGB's transfer function (IEC 61966-2-1) on values clipped to [0, 1]."""
    clipped = np.clip(linear, 0.0, 1.0)
    return np.where(clipped <= 0.0031308, 12.92 * clipped, 1.055 * np.power(clipped, 1.0 / 2.4) - 0.055)


def _in_cube(cube: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Interpolate an (N, N, N, 3) table at (..., 3) points in [0, 1], tetrahedrally."""
    last = len(cube) - 1
    scaled = places * last
    cell = np.minimum(scaled.astype(np.int64), last - 1)
    part = scaled - cell
    order = np.argsort(-part, axis=-1, kind="stable")
    part = np.take_along_axis(part, order, axis=-1)
    corner = cell.copy()
    value = cube[tuple(np.moveaxis(corner, -1, 0))] * (1.0 - part[..., :1])
    for step in range(3):
        np.put_along_axis(
            corner, order[..., step : step + 1], np.take_along_axis(cell, order[..., step : step + 1], -1) + 1, -1
        )
        weight = part[..., step] - (part[..., step + 1] if step < 2 else 0.0)
        value = value + cube[tuple(np.moveaxis(corner, -1, 0))] * weight[..., None]
    return np.asarray(value)


@functools.cache
def _filmic_tables() -> tuple[np.ndarray, np.ndarray]:
    """The (33, 33, 33, 3) desaturation, indexed by red, green and blue, and the (4096,) contrast curve."""
    spec = importlib.util.find_spec("bpy")
    if spec is None or not spec.submodule_search_locations:
        raise missing_package("view transform filmic (its tables come with Blender)", "bpy", extras="curate")
    folders = sorted(Path(spec.submodule_search_locations[0]).glob("*/datafiles/colormanagement/filmic"))
    if not folders:
        raise ConfigError("view transform filmic: this version of Blender does not include its tables; use standard")
    cube = _numbers(folders[-1] / _DESATURATION).reshape(33, 33, 33, 3)
    return cube.transpose(2, 1, 0, 3), _numbers(folders[-1] / _CONTRAST).reshape(-1)


def _numbers(path: Path) -> np.ndarray:
    """All lines of a table that contain only numbers."""
    rows = [line.split() for line in path.read_text().splitlines()]
    return np.array([row for row in rows if row and all(_is_number(word) for word in row)], np.float64)


def _is_number(word: str) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True
