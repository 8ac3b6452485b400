"""Writes a page that shows one sample of a shard in 3D: its O-Voxels and their meshes, beside the rendered images."""

from __future__ import annotations

import base64
import io
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.core import ConfigError, FormatError, write_bytes
from helix4d.curation.places.folder import Place, is_far
from helix4d.curation.report.pictures import camera_of
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.render.pages.viewer import packed_ovoxel, viewer_page
from helix4d.voxelize import decode_vxz

MOST_VOXELS = 2_000_000
"""Default limit on the voxels of all frames: a page of about 25 MB, which browsers handle easily."""

_PICTURE = 192
_QUALITY = 80
_FPS = 8.0


def write_sample_viewer(shard: Place, key: str, page: Path | None = None, most_voxels: int = MOST_VOXELS) -> Path:
    """Write the page of a sample.

    Args:
        shard: path or URL of a committed `.tar`; from a URL, only the parts that are shown are downloaded.
        key: key of the sample.
        page: HTML file. None: KEY.html beside the shard, or in the current folder for a URL.
        most_voxels: maximum number of voxels over all frames; above it, blocks of 2³, 4³, ... voxels are merged.

    Returns:
        Path of the page.

    Raises:
        ConfigError: if the shard has no such sample, or `most_voxels` is less than 1.
        FormatError: if the shard is not committed or damaged.
        StoreError: if the URL cannot be read.
    """
    if most_voxels < 1:
        raise ConfigError(f"--voxels {most_voxels}: must be at least 1")
    reader = ShardReader(shard)
    if key not in reader.keys():  # noqa: SIM118 (not a dict)
        problem = f"no sample {key!r}" if key else "the key of a sample is required"
        raise ConfigError(f"{shard}: {problem}; its samples are {', '.join(reader.keys()) or '(none)'}")
    clip = reader.clip(key)
    factor = _factor(sum(clip["voxels"]), clip["resolution"], most_voxels)
    try:
        stored = reader.read_members(key, [f"frame_{frame:02d}.vxz" for frame in range(clip["frames"])])
        frames = [packed_ovoxel(decode_vxz(data), factor) for data in stored.values()]
        views = [_view(reader, key, view, clip["frames"]) for view in range(clip["views"])]
    except (KeyError, OSError, ValueError) as error:
        raise FormatError(f"{shard}: cannot show {key} ({error}): run `helix4d verify`") from error
    data = {
        "about": _about(clip, factor),
        "fps": _FPS,
        "frames": frames,
        "input": [],
        "resolution": clip["resolution"] // factor,
        "views": views,
    }
    path = page or (Path() if is_far(shard) else Path(shard).parent) / f"{key}.html"
    write_bytes(path, viewer_page(data))
    return path


def _factor(voxels: int, resolution: int, most: int) -> int:
    """Return the smallest power of two by which to reduce the resolution; doubling quarters a surface's voxels."""
    factor = 1
    while voxels / factor**2 > most and resolution // factor > 8:
        factor *= 2
    return factor


def _about(clip: dict[str, Any], factor: int) -> str:
    lines = [
        clip["asset"],
        f"clip {clip['clip']['name'] or clip['clip']['index']}, {clip['key']}",
        f"{min(clip['voxels']):,} to {max(clip['voxels']):,} voxels of {clip['resolution']}³",
    ]
    if factor > 1:
        lines.append(f"shown at {clip['resolution'] // factor}³: blocks of {factor}³ voxels are merged")
    return "\n".join(lines)


def _view(reader: ShardReader, key: str, view: int, frames: int) -> dict[str, Any]:
    about, *images = (f"view_{view:02d}.json", *(f"view_{view:02d}_frame_{frame:02d}.webp" for frame in range(frames)))
    found = reader.read_members(key, [about, *images])
    camera = camera_of(found[about], f"{key}.{about}")
    return {"camera": camera.to_json(), "images": [_picture(found[image], f"{key}.{image}") for image in images]}


def _picture(webp: bytes, where: str) -> str:
    """Return a small copy of an image as a data URL."""
    stream = io.BytesIO()
    small = decode_image(webp, where).convert("RGBA")
    small.thumbnail((_PICTURE, _PICTURE), Image.Resampling.BOX)
    Image.fromarray(np.asarray(small)).save(stream, "WEBP", quality=_QUALITY)
    return "data:image/webp;base64," + base64.b64encode(stream.getvalue()).decode()
