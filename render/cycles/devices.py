"""Which device Cycles renders on: the first type of GPU that has one, else the CPU.

`python -m helix4d.render.cycles.devices` prints the GPUs that Blender finds, as a JSON list of names.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from helix4d.core import ConfigError

_LOG = logging.getLogger(__name__)

GPU_TYPES = ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI")
"""Blender's types of GPU devices in the order of preference: OptiX has the ray tracing units, CUDA the same cards."""


def select_device(preferences: Any, device: str) -> str:
    """Enable the devices of one type, all that the process may see; Ray shows a worker those that it reserved.

    Args:
        preferences: of Blender's Cycles add-on.
        device: one of `helix4d.render.scene.settings.DEVICES`.

    Returns:
        What `scene.cycles.device` is to be, "CPU" or "GPU".

    Raises:
        ConfigError: if a GPU was asked for and Blender finds none of that type.
    """
    if device == "cpu":
        return "CPU"
    any_type = device in ("auto", "gpu")
    for kind in GPU_TYPES if any_type else (device.upper(),):
        devices = _devices(preferences, kind)
        if not any(entry.type == kind for entry in devices):
            continue
        preferences.compute_device_type = kind
        for entry in devices:
            entry.use = entry.type == kind  # a type's list holds the CPU too
        _LOG.debug("rendering on %s", ", ".join(entry.name for entry in devices if entry.use))
        return "GPU"
    if device != "auto":
        raise ConfigError(f"device {device!r}: Blender finds none that it can render on; use auto or cpu")
    return "CPU"


def find_gpus(preferences: Any) -> list[str]:
    """Names of the devices that `select_device` would enable for "auto", without the CPU."""
    for kind in GPU_TYPES:
        names = [entry.name for entry in _devices(preferences, kind) if entry.type == kind]
        if names:
            return names
    return []


def cycles_preferences() -> Any:
    """The preferences of Blender's Cycles add-on; starts Blender."""
    import bpy

    return bpy.context.preferences.addons["cycles"].preferences


def _devices(preferences: Any, kind: str) -> list[Any]:
    try:
        return list(preferences.get_devices_for_type(kind) or ())
    except (TypeError, ValueError):  # a type that this build of Blender does not know
        return []


if __name__ == "__main__":
    print(json.dumps(find_gpus(cycles_preferences())))  # noqa: T201 (its one purpose)
