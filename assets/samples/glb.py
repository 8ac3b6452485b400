"""The GLB files of the samples, with `extras` that name their content, license and author."""

from __future__ import annotations

from collections.abc import Sequence

from helix4d.assets.gltf.writer import GlbBuilder


def sample_builder(title: str, demonstrates: Sequence[str]) -> GlbBuilder:
    """An empty file with the samples' `asset.extras`.

    Args:
        title: name of the sample.
        demonstrates: the features of glTF that it shows.
    """
    extras = {
        "title": title,
        "author": "Helix4D sample generator",
        "license": "CC0-1.0",
        "demonstrates": list(demonstrates),
    }
    return GlbBuilder("Helix4D assets.samples", extras)
