"""Sample assets: procedurally generated, animated GLBs with reproducible bytes."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from helix4d.assets.samples.chest import treasure_chest
from helix4d.assets.samples.clock import clock
from helix4d.assets.samples.creatures import blob_star, caterpillar, ladybug
from helix4d.assets.samples.effects import campfire, smoke_puff
from helix4d.assets.samples.fracture import shattering_vase
from helix4d.assets.samples.thin import butterfly, flag, sprout
from helix4d.assets.samples.vessels import firefly_jar, fishbowl
from helix4d.core import write_bytes

SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "blob_star": blob_star,
    "butterfly": butterfly,
    "campfire": campfire,
    "caterpillar": caterpillar,
    "clock": clock,
    "firefly_jar": firefly_jar,
    "fishbowl": fishbowl,
    "flag": flag,
    "ladybug": ladybug,
    "shattering_vase": shattering_vase,
    "smoke_puff": smoke_puff,
    "sprout": sprout,
    "treasure_chest": treasure_chest,
}
"""Functions that return the bytes of a `.glb`, by the name of the sample."""


def write_samples(folder: Path) -> list[Path]:
    """Write every sample to `folder`/NAME.glb, and return the paths sorted by name."""
    paths = []
    for name, build in sorted(SAMPLES.items()):
        path = Path(folder) / f"{name}.glb"
        write_bytes(path, build())
        paths.append(path)
    return paths


__all__ = ["SAMPLES", "write_samples"]
