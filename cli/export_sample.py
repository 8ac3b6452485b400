"""`helix4d export-sample`: writes a sample's textured animation as a GLB file."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError, write_bytes
from helix4d.curation.layouts.glb import CLIP, FULL, sample_files
from helix4d.curation.places.folder import place_of
from helix4d.curation.shards.reader import ShardReader
from helix4d.voxelize.mesh.export import require_packages
from helix4d.voxelize.mesh.glb import TextureFormat


@dataclass(frozen=True)
class ExportSample:
    """Write a sample's animation as a textured GLB that Blender, three.js and other viewers play.

    The meshes are extracted from the sample's O-Voxels, so each frame has its own mesh. Example:

        helix4d export-sample shards/train/helix4d-000000.tar 0123456789abcdef_0 --output clip.glb
    """

    shard: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SHARD")]
    """Path or URL of a shard's .tar."""
    key: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="KEY")]
    """Key of the sample; `helix4d inspect SHARD` lists them."""
    output: Annotated[Path, tyro.conf.arg(metavar="FILE")]
    """GLB file of the animation."""
    frames: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(optional)")] = None
    """Folder for one GLB per frame, frame_00.glb and so on."""
    resolution: Annotated[int | None, tyro.conf.arg(metavar="R", help_behavior_hint="(default: the first one)")] = None
    """Resolution of the O-Voxels, for samples with several."""
    faces: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: keep all)")] = None
    """Simplify each frame to at most this many faces."""
    texture_size: int = FULL.texture_size
    """Pixels per side of the textures."""
    texture_format: TextureFormat = FULL.texture_format
    """png, or webp for smaller files, which readers without EXT_texture_webp refuse."""
    meshopt: bool = False
    """Compress the geometry, which readers without EXT_meshopt_compression refuse."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    args = tyro.cli(tyro.conf.EnumChoicesFromValues[ExportSample], prog="helix4d export-sample", args=arguments)
    settings = replace(
        FULL,
        faces=args.faces,
        texture_size=args.texture_size,
        texture_format=args.texture_format,
        meshopt=args.meshopt,
    )
    require_packages(settings)
    reader = ShardReader(place_of(args.shard))
    if args.key not in reader.keys():  # noqa: SIM118 (not a dict)
        raise ConfigError(f"{args.shard}: has no sample {args.key}: `helix4d inspect {args.shard}` lists its samples")
    for name, data in sample_files(reader, args.key, settings, args.resolution):
        path = args.output if name == CLIP else None if args.frames is None else args.frames / name
        if path is not None:
            write_bytes(path, data)
            print(f"{path}: {len(data) / 1e6:.1f} MB")
    return 0
