"""ActionBench's layout: `data/KEY/surfaces.npy`, tracked points with normals, and the frames of a video.

`surfaces.npy` is (T, N, 6) float32: positions and unit normals, Z up, in the normalized cube. It is written after the
frames, so a folder that has one is complete.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helix4d.assets.tracks import Tracks
from helix4d.core import ConfigError, write_bytes
from helix4d.curation.layouts.samples import Exported, split_readers
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.track_files import TRACKS_MEMBER, decode_tracks

SURFACES = "surfaces.npy"

_FRONT_DEG = -90.0


def export_actionbench(output: Place, folder: Path, split: str) -> Iterator[Exported]:
    """Write the samples of a split that were curated with tracks and views. Those already written are not read again.

    The video is the fixed view from the front if there is one, otherwise the first random view.

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for `data/`.
        split: one of `SPLITS`.

    Raises:
        ConfigError: if the output has no shards of the split, or they have no tracks or no views.
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    for reader in split_readers(output, split):
        settings = reader.sidecar["config"]
        if not settings.get("tracks") or not (settings.get("views") or settings.get("fixed_views")):
            raise ConfigError(
                f"{output}: {reader.path.name} was curated without tracked points or views: curate with --tracks 8192 "
                "and --fixed-views front"
            )
        for key in reader.keys():  # noqa: SIM118 (not a dict)
            yield _export_sample(reader, key, folder / "data" / key)


def surfaces_of(tracks: Tracks) -> np.ndarray:
    """Return ActionBench's array, (T, N, 6) float32: positions and normals."""
    return np.concatenate([tracks.positions, tracks.normals.astype(np.float32)], axis=2)


def _export_sample(reader: ShardReader, key: str, folder: Path) -> Exported:
    if (folder / SURFACES).is_file():
        return Exported(key)
    clip = reader.clip(key)
    data = reader.read(key, TRACKS_MEMBER)
    tracks = decode_tracks(data, clip["frames"], clip["tracks"], f"{reader.path}: {key}.{TRACKS_MEMBER}")
    if not tracks.present.all():
        return Exported(key, "its surface appears, vanishes or changes its topology, so its points cannot be tracked")
    azimuths = clip.get("fixed_views", [])
    view = f"fixed_{azimuths.index(_FRONT_DEG):02d}" if _FRONT_DEG in azimuths else "view_00"
    members = [f"{view}_frame_{frame:02d}.webp" for frame in range(clip["frames"])]
    for frame, (name, image) in enumerate(reader.read_members(key, members).items()):
        picture = io.BytesIO()
        decode_image(image, f"{reader.path}: {key}.{name}", clip["image_size"]).save(picture, "PNG")
        write_bytes(folder / f"frame_{frame:02d}.png", picture.getvalue())
    array = io.BytesIO()
    np.save(array, surfaces_of(tracks), allow_pickle=False)
    write_bytes(folder / SURFACES, array.getvalue())
    return Exported(key)
