"""How many GPUs a worker is given, and whether Blender can render on them. Knows nothing of Ray."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Callable

from helix4d.core import ConfigError
from helix4d.core.processes import child_environment
from helix4d.render import EngineName

_LOG = logging.getLogger(__name__)
_TIMEOUT_S = 120.0


def choose_gpus(
    asked: float | None, engine: EngineName, there: float, most: float, usable: Callable[[float], list[str]]
) -> float:
    """GPUs to reserve for each worker.

    Args:
        asked: by the user; None for one where there are any, if Blender can render on it. Only rendering on one worker
            a GPU keeps Ray's account right, and a second worker would gain nothing on a busy card.
        engine: raster gets none unless asked: its work is on the CPU, and its OpenGL takes the first card anyway.
        there: GPUs of the cluster now.
        most: GPUs that it can ever have.
        usable: names of the GPUs that Blender finds in a worker with so many reserved.

    Raises:
        ConfigError: if more were asked for than there can be, or Blender finds none among them.
    """
    if asked is not None and asked < 0:
        raise ConfigError(f"gpus_per_worker {asked:g}: 0 or more is needed")
    wanted = asked if asked is not None else float(there >= 1 and engine != "raster")
    if wanted == 0:
        return 0.0
    if wanted > most:
        raise ConfigError(f"gpus_per_worker {wanted:g}: Ray finds {most:g} GPUs here")
    if engine == "raster" or usable(wanted):
        return wanted
    finding = f"Ray finds {there:g} GPUs, but Blender finds none that it can render on (is the driver too old?)"
    if asked is not None:
        raise ConfigError(f"gpus_per_worker {asked:g}: {finding}; with 0 the CPUs render")
    _LOG.warning("%s: the CPUs render", finding)
    return 0.0


def render_device(engine: EngineName, gpus: float) -> str:
    """What a worker with so many GPUs renders on: those, and nothing that Ray did not reserve."""
    if engine == "raster":
        return "auto"
    return "gpu" if gpus else "cpu"


def find_usable_gpus() -> list[str]:
    """Names of the GPUs that Blender finds, in a process that ends with it."""
    found = subprocess.run(
        [sys.executable, "-m", "helix4d.render.cycles.devices"],
        env=child_environment(),
        capture_output=True,
        text=True,
        timeout=_TIMEOUT_S,
        check=False,
    )
    if found.returncode:
        _LOG.warning("Blender could not be asked for GPUs: %s", found.stderr[-500:])
        return []
    names: list[str] = json.loads(found.stdout.splitlines()[-1])
    return names
