"""Freeze today's results: `python -m tests.data.make_fixtures [NAME ...]`, all of them by default.

Run it only after a change that is meant to change numbers, and after `test_parity_*.py` has passed with the reference
files of other implementations. Say in the commit which numbers changed and why.
"""

from __future__ import annotations

import sys
from collections.abc import Callable

from helix4d.voxelize import encode_vxz
from tests.data.frozen import VXZ, load, save
from tests.data.recipes import assets, evaluation, model, voxelize


def _freeze_vxz() -> None:
    """The files are written from the frozen O-Voxel, so that they change with the format alone."""
    ovoxel = voxelize.painted_ovoxel(load("ovoxel"))
    VXZ.mkdir(exist_ok=True)
    for name, options in voxelize.VXZ_OPTIONS.items():
        (VXZ / f"{name}.vxz").write_bytes(encode_vxz(ovoxel, **options))


RECIPES: dict[str, Callable[[], None]] = {
    "bake": lambda: save("bake", assets.baked_samples()),
    "dual_grids": lambda: save("dual_grids", voxelize.dual_grids()),
    "attributes": lambda: save("attributes", voxelize.sample_attributes()),
    "ovoxel": lambda: save("ovoxel", voxelize.painted_arrays()),
    "vxz": _freeze_vxz,
    "mesh": lambda: save("mesh", voxelize.extracted_meshes(load("ovoxel"))),
    "networks": lambda: save("networks", model.network_outputs()),
    "distances": lambda: save("distances", evaluation.distances()),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or RECIPES:
        RECIPES[name]()
