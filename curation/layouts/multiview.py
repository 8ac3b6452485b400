"""A folder of PNG files per view, `KEY/view_VV/FF.png`, and `cameras.json`: the layout that L4GM and SS4D read."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helix4d.core import canonical_json, write_bytes
from helix4d.curation.layouts.samples import (
    Exported,
    each_sample,
    read_camera,
    require_views,
    view_names,
    write_image,
)
from helix4d.curation.places.folder import Place

CAMERAS = "cameras.json"


def export_multiview(output: Place, folder: Path, split: str) -> Iterator[Exported]:
    """Write the samples of a split; files that exist are kept. `cameras.json`, written last, marks a complete sample.

    It maps each view to its camera in OpenCV's convention: intrinsics in pixels, and world to camera.

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for the samples.
        split: one of `SPLITS`.

    Raises:
        ConfigError: if the output has no shards of the split, or they have no views.
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    for reader, key in each_sample(output, split):
        require_views(reader, "multiview")
        if not (folder / key / CAMERAS).exists():
            clip = reader.clip(key)
            cameras = {}
            for view in view_names(reader, key):
                cameras[view] = read_camera(reader, key, view).to_json()
                for frame in range(clip["frames"]):
                    path = folder / key / view / f"{frame:02d}.png"
                    write_image(path, reader, key, f"{view}_frame_{frame:02d}", clip["image_size"])
            write_bytes(folder / key / CAMERAS, canonical_json({"times_s": clip.get("times_s", []), "views": cameras}))
        yield Exported(key)
