"""Meshes as arrays: `KEY.npz` with the surface of every frame and the tracked points, for training on mesh sequences.

The surface is extracted from the O-Voxels, so its triangles differ from frame to frame. Correspondence over time is in
the tracked points, if the shards were curated with `--tracks`.
"""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from helix4d.curation.layouts.samples import Exported, each_sample, write_once
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.members import vxz_member
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.track_files import TRACKS_MEMBER, decode_tracks
from helix4d.voxelize import decode_vxz
from helix4d.voxelize.mesh.extract import extract_mesh


def export_meshes(output: Place, folder: Path, split: str) -> Iterator[Exported]:
    """Write the samples of a split; files that exist are kept.

    | array | content |
    |---|---|
    | `vertices_FF` | (V, 3) float32, normalized cube, Z up |
    | `faces_FF` | (F, 3) int32 |
    | `times_s` | (T,) float64 |
    | `tracks`, `track_normals`, `track_present` | (T, N, 3) float32 twice, (T, N) bool; only with tracked points |

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for the files.
        split: one of `SPLITS`.

    Raises:
        ConfigError: if the output has no shards of the split.
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    for reader, key in each_sample(output, split):
        write_once(folder / f"{key}.npz", lambda reader=reader, key=key: _encoded(reader, key))  # type: ignore[misc]
        yield Exported(key)


def _encoded(reader: ShardReader, key: str) -> bytes:
    clip = reader.clip(key)
    arrays: dict[str, np.ndarray] = {"times_s": np.array(clip.get("times_s", []), np.float64)}
    for frame in range(clip["frames"]):
        vertices, faces = extract_mesh(decode_vxz(reader.read(key, vxz_member(frame))))
        arrays[f"vertices_{frame:02d}"] = vertices.astype(np.float32)
        arrays[f"faces_{frame:02d}"] = faces.astype(np.int32)
    if clip.get("tracks"):
        where = f"{reader.path}: {key}.{TRACKS_MEMBER}"
        tracks = decode_tracks(reader.read(key, TRACKS_MEMBER), clip["frames"], clip["tracks"], where)
        arrays["tracks"] = tracks.positions
        arrays["track_normals"] = tracks.normals.astype(np.float32)
        arrays["track_present"] = tracks.present
    stream = io.BytesIO()
    np.savez_compressed(stream, **arrays)  # type: ignore[arg-type]
    return stream.getvalue()
