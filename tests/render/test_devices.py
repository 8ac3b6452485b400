"""The choice among GPUs, with a fake of Blender's preferences."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from helix4d.core import ConfigError
from helix4d.render.cycles.devices import find_gpus, select_device


@dataclass
class Entry:
    name: str
    type: str
    use: bool = False


@dataclass
class Preferences:
    """Cycles' add-on's, on some machine; a type's list has the CPU too, as Blender's has."""

    entries: list[Entry]
    unknown: tuple[str, ...] = ("METAL", "ONEAPI")
    compute_device_type: str = "NONE"
    asked: list[str] = field(default_factory=list)

    def get_devices_for_type(self, kind: str) -> list[Entry]:
        self.asked.append(kind)
        if kind in self.unknown:
            raise ValueError(f"no {kind} in this build")
        return [entry for entry in self.entries if entry.type in (kind, "CPU")]


def machine(*kinds: str) -> Preferences:
    return Preferences([Entry(f"{kind} {i}", kind) for i, kind in enumerate(("CPU", *kinds))])


@pytest.mark.parametrize("device", ["auto", "gpu"])
@pytest.mark.parametrize(
    ("kinds", "chosen", "used"),
    [
        (("CUDA", "OPTIX"), "OPTIX", ["OPTIX 2"]),
        (("CUDA", "CUDA"), "CUDA", ["CUDA 1", "CUDA 2"]),
        (("HIP",), "HIP", ["HIP 1"]),
    ],
)
def test_the_first_type_that_has_a_gpu_is_used_with_all_its_cards(
    device: str, kinds: tuple[str, ...], chosen: str, used: list[str]
) -> None:
    preferences = machine(*kinds)
    assert select_device(preferences, device) == "GPU"
    assert preferences.compute_device_type == chosen
    assert [entry.name for entry in preferences.entries if entry.use] == used
    assert find_gpus(preferences) == used


def test_one_type_may_be_asked_for() -> None:
    preferences = machine("CUDA", "OPTIX")
    assert select_device(preferences, "cuda") == "GPU"
    assert [entry.name for entry in preferences.entries if entry.use] == ["CUDA 1"]
    with pytest.raises(ConfigError, match="device 'hip': Blender finds no such device"):
        select_device(preferences, "hip")
    with pytest.raises(ConfigError, match="device 'metal': Blender finds no such device"):
        select_device(preferences, "metal")


def test_without_a_gpu_only_auto_falls_back(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    assert select_device(machine(), "auto") == "CPU"
    assert caplog.messages == ["rendering on the CPU: Blender finds no GPU"]
    assert find_gpus(machine()) == []
    with pytest.raises(ConfigError, match="device 'gpu': Blender finds no such device"):
        select_device(machine(), "gpu")


def test_the_cpu_asks_for_nothing() -> None:
    preferences = machine("OPTIX")
    assert select_device(preferences, "cpu") == "CPU"
    assert preferences.asked == []


def test_the_module_prints_what_blender_finds() -> None:
    root = Path(__file__).resolve().parents[2]
    printed = subprocess.run(
        [sys.executable, "-m", "helix4d.render.cycles.devices"],
        cwd=root,
        check=True,
        capture_output=True,
        text=True,
        timeout=120,
    ).stdout
    assert isinstance(json.loads(printed.splitlines()[-1]), list)
