"""Decodes every member of a shard, for `webdataset.WebDataset(shards).decode(*decoders())`.

webdataset's own image decoders reduce every image to 8 bits, which destroys depth.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np

from helix4d.core.documents import parse_json
from helix4d.curation.shards.members import DEPTH, DEPTH_OF_0_3, decode_image, parse_clip
from helix4d.curation.shards.track_files import TRACKS_MEMBER, decode_any_tracks
from helix4d.render.scene.passes import decode_depth, decode_normal
from helix4d.voxelize import decode_vxz

_BY_ENDING: dict[str, Callable[[bytes, str], Any]] = {
    ".clip.json": parse_clip,
    ".json": lambda data, where: parse_json(data, where, "member"),
    ".vxz": lambda data, _: decode_vxz(data),
    ".webp": lambda data, where: np.array(decode_image(data, where)),
    f".{DEPTH}": lambda data, _: decode_depth(data),
    f".{DEPTH_OF_0_3}": lambda data, _: decode_depth(data),
    ".normal.exr": lambda data, _: decode_normal(data),
    f".{TRACKS_MEMBER}": decode_any_tracks,
}


def decoders() -> list[Callable[[str, bytes], Any]]:
    """Return the decoders of all members of a shard, for webdataset's `decode`.

    | member | value |
    |---|---|
    | `clip.json`, `view_VV.json` | dict |
    | `frame_FF.vxz` | `helix4d.voxelize.OVoxel` |
    | `view_VV_frame_FF.webp` | (S, S, 4) uint8, sRGB, straight alpha |
    | `….depth.png16` | (S, S) float32 along the camera's z axis in units of the cube, 0 where nothing was hit |
    | `….normal.exr` | (S, S, 3) float32, world frame, Z up, 0 where nothing was hit; needs the extra `curate` |
    | `tracks.npz` | `helix4d.assets.tracks.Tracks` |

    They raise `FormatError` if a member is damaged, and check sizes before decoding. webdataset's decoders handle all
    other members.
    """
    return [_decode]


def _decode(name: str, data: bytes) -> Any:
    """Decode a member; None if its name is not that of a shard's member. webdataset passes names as `.view_00.json`."""
    for ending, decode in _BY_ENDING.items():
        if name.endswith(ending):
            return decode(data, name.removeprefix("."))
    return None
