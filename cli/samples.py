"""`helix4d samples`: writes the procedural sample assets."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import tyro

from helix4d.assets.samples import write_samples


@dataclass(frozen=True)
class Samples:
    """Write thirteen small animated GLB files to experiment with.

    Together they cover what the pipeline supports: skinning, morph targets, changing topology, transparency, emission.
    Their license is CC0.
    """

    output: Path
    """Folder for the files."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Samples, prog="helix4d samples", args=arguments)
    for path in write_samples(config.output):
        print(path)
    return 0
