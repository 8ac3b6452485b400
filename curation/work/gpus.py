"""Chooses the number of GPUs per worker, and checks that Blender can render on them. Independent of Ray."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable

from helix4d.core import ConfigError
from helix4d.core.processes import child_environment_without_secrets
from helix4d.render import EngineOption

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 120.0


def choose_gpus(
    requested: float | None, engine: EngineOption, available: float, limit: float, usable: Callable[[float], list[str]]
) -> float:
    """Number of GPUs to reserve for each worker.

    Args:
        requested: number that the user asked for. None reserves one GPU per worker if Blender can render on the
            cluster's GPUs: a second worker would gain nothing on a busy GPU.
        engine: render engine. raster gets no GPU unless one is requested: it works on the CPU, and its OpenGL uses the
            first GPU anyway.
        available: number of GPUs in the cluster now.
        limit: number of GPUs that the cluster can ever have.
        usable: function from a number of reserved GPUs to the names of those that Blender can use in such a worker.

    Raises:
        ConfigError: if more GPUs are requested than there can be, or Blender can use none of them.
    """
    if requested is not None and requested < 0:
        raise ConfigError(f"gpus_per_worker {requested:g}: must be 0 or more")
    number = requested if requested is not None else float(available >= 1 and engine != "raster")
    if number == 0:
        return 0.0
    if number > limit:
        raise ConfigError(f"gpus_per_worker {number:g}: Ray finds {limit:g} GPUs here")
    if engine == "raster" or usable(number):
        return number
    problem = f"Ray finds {available:g} GPUs, but Blender cannot render on any of them (is the driver too old?)"
    if requested is not None:
        raise ConfigError(f"gpus_per_worker {requested:g}: {problem}; use 0 to render on the CPUs")
    _LOG.warning("%s: rendering on the CPUs", problem)
    return 0.0


def render_device(engine: EngineOption, gpus: float) -> str:
    """Return the device that a worker with this many GPUs renders on, so that it uses only what Ray reserved."""
    if engine == "raster":
        return "auto"
    return "gpu" if gpus else "cpu"


def find_usable_gpus() -> list[str]:
    """Names of the GPUs that Blender can render on, found in a child process so that Blender does not stay loaded."""
    completed = subprocess.run(
        [sys.executable, "-m", "helix4d.render.cycles.devices"],
        env=child_environment_without_secrets(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if completed.returncode:
        _LOG.warning("Blender failed to list its GPUs: %s", completed.stderr[-500:])
        return []
    names: list[str] = json.loads(completed.stdout.splitlines()[-1])
    return names
