"""Textured meshes: `KEY/clip.glb`, the animation, and `KEY/frame_FF.glb` per frame, from O-Voxels alone."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from helix4d.core import write_bytes
from helix4d.curation.layouts.samples import Exported, each_sample
from helix4d.curation.places.folder import Place
from helix4d.curation.shards.members import at_resolution
from helix4d.curation.shards.reader import ShardReader
from helix4d.voxelize import OVoxel, decode_vxz, extract_mesh
from helix4d.voxelize.mesh.baking import BakedMesh
from helix4d.voxelize.mesh.cleaning import orient_faces
from helix4d.voxelize.mesh.export import ExportSettings, clip_files, require_packages, textured_mesh

CLIP = "clip.glb"
FULL = ExportSettings(fill_holes=0.0, min_component=0.0, faces=None, xatlas_faces=0)
"""The whole surface as it is, unwrapped by the fast method."""


def export_glb(output: Place, folder: Path, split: str, settings: ExportSettings = FULL) -> Iterator[Exported]:
    """Write the samples of a split; those whose `clip.glb` exists are kept.

    Args:
        output: folder or URL written by `helix4d curate`.
        folder: folder for the files.
        split: one of `SPLITS`.
        settings: how meshes are cleaned, textured and written.

    Raises:
        ConfigError: if the output has no shards of the split.
        FormatError: if a shard is damaged.
        SetupError: if a package is missing.
        StoreError: if a URL cannot be read.
    """
    require_packages(settings)
    for reader, key in each_sample(output, split):
        if not (folder / key / CLIP).exists():
            files = dict(sample_files(reader, key, settings))
            for name in sorted(files, key=lambda name: name == CLIP):  # last, as it marks the sample as complete
                write_bytes(folder / key / name, files[name])
        yield Exported(key)


def sample_files(
    reader: ShardReader, key: str, settings: ExportSettings = FULL, resolution: int | None = None
) -> Iterator[tuple[str, bytes]]:
    """Yield the name and content of each file of a sample: a GLB per frame that has voxels, then `clip.glb`.

    The animation plays at the rate of the sample's own times. All files have one alpha mode.

    Args:
        reader: the shard.
        key: key of the sample.
        settings: how meshes are cleaned, textured and written.
        resolution: resolution of the O-Voxels; None for the one that is used by default.

    Raises:
        FormatError: if a member is damaged, or the sample does not have the resolution.
        KeyError: if the shard has no such sample.
    """
    clip = reader.clip(key)
    _, suffixes = at_resolution(clip, resolution, f"{reader.path}: {key}")
    meshes = [_mesh(decode_vxz(reader.read(key, suffix)), settings) for suffix in suffixes]
    times = clip.get("times_s", [])
    duration = times[-1] - times[0] if len(times) > 1 else 0.0
    yield from clip_files(meshes, (len(times) - 1) / duration if duration > 0 else 1.0, settings)


def _mesh(ovoxel: OVoxel, settings: ExportSettings) -> BakedMesh | None:
    vertices, faces = extract_mesh(ovoxel)
    # An O-Voxel stores where its surface crosses grid edges, not which side is outside.
    return textured_mesh(vertices, orient_faces(vertices, faces), ovoxel, settings) if len(faces) else None
