"""Imports and uses the model half while the packages of the curation half cannot be imported: a script for one process.

Usage: python -m tests.use_model_half FOLDER. Prints JSON: the number of imported modules, and what each step produced.
"""

from __future__ import annotations

import importlib
import importlib.abc
import json
import pkgutil
import sys
from collections.abc import Iterator
from dataclasses import replace
from importlib.machinery import ModuleSpec, PathFinder
from pathlib import Path
from typing import Any

BLOCKED = frozenset(
    [
        *("av", "blenderproc", "bpy", "DracoPy", "jsonschema", "mathutils", "meshoptimizer", "moderngl"),
        *("OpenEXR", "pxr", "ray", "rembg", "trimesh", "tyro", "ufbx", "webdataset", "xatlas", "zstandard"),
    ]
)
PACKAGES = (
    "core",
    "assets",
    "voxelize",
    "render",
    "curation.shards",
    "curation.config",
    "shards",
    "model",
    "train",
    "evaluation",
)
"""What must import without these packages, with every module below it."""
EXCEPT = (
    "assets.fbx",
    "assets.usd",
    "core.command_line",
    "train.command",
    "train.__main__",
    "train.latents.encode_task",
    "render.blenderproc.engine",
    "render.cycles",
    "render.raster",
)
"""Modules that are imported only where a file needs them, a command parses options, Ray runs, or an engine renders."""


class Hidden(importlib.abc.MetaPathFinder):
    """Finds modules on the path as Python does, except those of blocked packages, as if they were not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        return None if name.partition(".")[0] in BLOCKED else PathFinder.find_spec(name, path, target)

    def find_distributions(self, *arguments: Any) -> Iterator[Any]:
        found = PathFinder.find_distributions(*arguments)
        return (distribution for distribution in found if distribution.name not in BLOCKED)


def import_all() -> int:
    """Import every module of the model half; returns their number."""
    names = [name for package in PACKAGES for name in _below(f"helix4d.{package}")]
    assert len(names) == len(set(names))
    return len(names)


def _below(name: str) -> Iterator[str]:
    if name.removeprefix("helix4d.") in EXCEPT:
        return
    module = importlib.import_module(name)
    yield name
    for entry in pkgutil.iter_modules(getattr(module, "__path__", [])):
        yield from _below(f"{name}.{entry.name}")


def use(folder: Path) -> dict[str, Any]:
    """Voxelize, store, encode, train and measure; returns facts about each."""
    from helix4d.core import ConfigError
    from helix4d.evaluation import AlignmentSettings, Protocol, measure_geometry, sample_tracked
    from helix4d.train.latents.encode import EncodeConfig, encode
    from helix4d.train.latents.jobs import LatentConfig
    from helix4d.train.loop import train
    from helix4d.train.metrics import read_metrics
    from helix4d.voxelize import decode_vxz, encode_vxz
    from tests.evaluation.shapes import moved, tripod
    from tests.train import world
    from tests.voxelize.meshes import painted_sphere

    facts: dict[str, Any] = {}
    ovoxel = painted_sphere()
    facts["voxels"] = len(decode_vxz(encode_vxz(ovoxel, "none")).coords)
    try:
        encode_vxz(ovoxel)
    except ConfigError as error:
        facts["zstandard"] = str(error)

    shards = world.write_shards(folder / "shards", ["butterfly"])
    models = world.write_models(folder / "models")
    options = EncodeConfig(shards, folder / "latents", str(models), latents=LatentConfig(occupancy_resolution=8))
    try:
        encode(options)
    except ConfigError as error:
        facts["ray"] = str(error)
    facts["encoded"] = encode(replace(options, serial=True))
    config = world.train_config("structure", options.output, shards, models, folder / "runs", steps=2)
    train(config)
    facts["losses"] = [row["loss"] for row in read_metrics(config.folder) if "loss" in row]

    protocol = Protocol(
        points=300, alignment_points=100, alignment=AlignmentSettings(steps=2, refined=1, coarse_steps=2)
    )
    frames = [tripod(), moved(tripod(), (0.1, 0.0, 0.0))]
    scores = measure_geometry(frames, sample_tracked(frames, protocol.points, protocol.seed), protocol)
    facts["geometry"] = [scores.cd_3d, scores.cd_4d, scores.cd_m]
    return facts


if __name__ == "__main__":
    sys.meta_path[sys.meta_path.index(PathFinder)] = Hidden()
    count = import_all()
    result = {"modules": count, **use(Path(sys.argv[1]))}
    assert not BLOCKED & sys.modules.keys()
    print(json.dumps(result))
