"""Sample assets: animated GLBs made from nothing, the same bytes on every run."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

from assets.samples.creatures import blob_star, caterpillar, ladybug
from assets.samples.fracture import shattering_vase
from assets.samples.thin import butterfly, flag, sprout
from core import write_bytes

SAMPLES: Mapping[str, Callable[[], bytes]] = {
    "blob_star": blob_star,
    "butterfly": butterfly,
    "caterpillar": caterpillar,
    "flag": flag,
    "ladybug": ladybug,
    "shattering_vase": shattering_vase,
    "sprout": sprout,
}


def write_samples(folder: Path) -> list[Path]:
    """Write every sample as `folder`/NAME.glb and return the paths, sorted by name."""
    paths = []
    for name, build in sorted(SAMPLES.items()):
        path = Path(folder) / f"{name}.glb"
        write_bytes(path, build())
        paths.append(path)
    return paths


__all__ = ["SAMPLES", "write_samples"]
