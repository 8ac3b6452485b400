"""Skips tests that need OpenGL through EGL where it is not available."""

from __future__ import annotations

import functools
import importlib.util

import pytest


@functools.cache
def _lacking() -> str | None:
    if importlib.util.find_spec("moderngl") is None:
        return "moderngl is not installed"
    from helix4d.core import ConfigError
    from helix4d.render.raster.engine import open_device

    try:
        open_device("cpu")
    except ConfigError as error:
        return str(error)
    return None


needs_egl = pytest.mark.skipif(_lacking() is not None, reason=f"no raster engine here: {_lacking()}")
