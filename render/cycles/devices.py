"""Chooses the device that Cycles renders on: the first available type of GPU, else the CPU.

`python -m helix4d.render.cycles.devices` prints the GPUs that Blender finds, as a JSON list of names.
"""

from __future__ import annotations

import json
import logging
from typing import Any

from helix4d.core import SetupError

_LOG = logging.getLogger(__name__)

GPU_TYPES = ("OPTIX", "CUDA", "HIP", "METAL", "ONEAPI")
"""Blender's types of GPU devices in order of preference; OptiX is CUDA's cards with their ray tracing cores."""


def select_device(preferences: Any, device: str) -> str:
    """Enable all visible devices of one type; Ray makes only the reserved ones visible to a worker.

    Args:
        preferences: preferences of Blender's Cycles add-on.
        device: one of `helix4d.render.scene.settings.DEVICES`.

    Returns:
        The value for `scene.cycles.device`, "CPU" or "GPU".

    Raises:
        SetupError: if a GPU is requested and Blender finds none of that type.
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
            entry.use = entry.type == kind  # the list of a type also contains the CPU
        _LOG.debug("rendering on %s", ", ".join(entry.name for entry in devices if entry.use))
        return "GPU"
    if device != "auto":
        raise SetupError(f"device {device!r}: Blender finds no such device; use auto or cpu")
    _LOG.info("rendering on the CPU: Blender finds no GPU")
    return "CPU"


def find_gpus(preferences: Any) -> list[str]:
    """Names of the GPUs that `select_device` would enable for "auto"."""
    for kind in GPU_TYPES:
        names = [entry.name for entry in _devices(preferences, kind) if entry.type == kind]
        if names:
            return names
    return []


def cycles_preferences() -> Any:
    """Return the preferences of Blender's Cycles add-on; starts Blender."""
    import bpy

    return bpy.context.preferences.addons["cycles"].preferences


def _devices(preferences: Any, kind: str) -> list[Any]:
    try:
        return list(preferences.get_devices_for_type(kind) or ())
    except (TypeError, ValueError):  # this build of Blender does not support the type
        return []


if __name__ == "__main__":
    print(json.dumps(find_gpus(cycles_preferences())))  # noqa: T201 (the output of this command)
