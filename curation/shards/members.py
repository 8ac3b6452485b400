"""Decodes members of a sample. Shards are untrusted: sizes are compared with the declared ones before decoding."""

from __future__ import annotations

import io
import math
from collections.abc import Mapping
from typing import Any

from PIL import Image

from helix4d.assets.skeleton import Skeleton, up_axis_from_json
from helix4d.core import FormatError, Schema
from helix4d.core.documents import parse_document
from helix4d.core.messages import reason

SAMPLE = Schema("clip.json", version=1, oldest=1, rewrite="curate its asset again, into a new output")

MOST = {"frames": 100, "views": 100, "resolution": 1024, "image_size": 4096, "tracks": 65536}
"""Largest value of each setting that announces the size of a sample, as in `SampleConfig`."""

DEPTH = "depth.png16"
"""Suffix of depth images. Generic decoders ignore `png16`; those for `.png` would keep 8 of the 16 bits."""
DEPTH_OF_0_3 = "depth.png"
"""Suffix of depth images in shards of version 0.3."""


def vxz_member(frame: int, resolution: int | None = None) -> str:
    """Return the suffix of the O-Voxel of a frame; `resolution` only if it is one of `other_resolutions`."""
    return f"frame_{frame:02d}.vxz" if resolution is None else f"frame_{frame:02d}_{resolution}.vxz"


def at_resolution(clip: Mapping[str, Any], resolution: int | None, where: object) -> tuple[dict[str, Any], list[str]]:
    """Return a `clip.json` as if one of its resolutions were the only one, and the suffixes of its O-Voxels.

    Args:
        clip: a parsed `clip.json`.
        resolution: the resolution; None for the one that is used by default.
        where: name of the sample, for messages.

    Raises:
        FormatError: if the sample does not have it.
    """
    others = clip.get("other_resolutions", {})
    chosen = {name: value for name, value in clip.items() if name != "other_resolutions"}
    frames = range(clip["frames"])
    if resolution in (None, clip["resolution"]):
        return chosen, [vxz_member(frame) for frame in frames]
    if str(resolution) not in others:
        found = ", ".join(map(str, (clip["resolution"], *others)))
        raise FormatError(f"{where}: has no O-Voxels of resolution {resolution}, only of {found}")
    chosen |= {"resolution": resolution, **others[str(resolution)]}
    return chosen, [vxz_member(frame, resolution) for frame in frames]


def parse_clip(data: bytes, where: object) -> dict[str, Any]:
    """Parse a `clip.json` and check its version and the fields that readers use.

    Raises:
        FormatError: if it is damaged, or its version is not supported.
    """
    clip = parse_document(data, SAMPLE, where)
    for name, most in MOST.items():
        value = clip.get(name, 0) if name == "tracks" else clip.get(name)  # older samples have no tracks
        if not _is_count(value, most):
            raise FormatError(f"{where}: {name} is {_short(value)}: expected a number of at most {most}")
    if not clip["frames"] or not clip["resolution"]:
        raise FormatError(f"{where}: frames or resolution is 0")
    others = clip.get("other_resolutions", {})
    if not isinstance(others, Mapping) or not all(isinstance(counts, Mapping) for counts in others.values()):
        raise FormatError(f"{where}: other_resolutions is {_short(others)}: expected counts for each resolution")
    for counts in (clip, *others.values()):
        for name in ("voxels", "tokens"):
            values = counts.get(name)
            if not isinstance(values, list) or len(values) != clip["frames"] or not all(map(_is_count, values)):
                raise FormatError(
                    f"{where}: {name} is {_short(values)}: expected {clip['frames']} numbers, one per frame"
                )
    chosen = clip.get("clip")
    if not isinstance(chosen, Mapping) or not isinstance(chosen.get("name", 0), str | None):
        raise FormatError(f"{where}: clip is {_short(chosen)}: expected the name and the index of the animation")
    for name in ("asset", "key"):
        if not isinstance(clip.get(name), str):
            raise FormatError(f"{where}: {name} is {_short(clip.get(name))}: expected a text")
    azimuths = clip.get("fixed_views", [])  # older samples have none
    if not isinstance(azimuths, list) or not all(type(azimuth) in (int, float) for azimuth in azimuths):
        raise FormatError(f"{where}: fixed_views is {_short(azimuths)}: expected a list of azimuths in degrees")
    for name in ("extras", "measures", "clipped"):  # older samples have no measures or clipped pixels
        if not isinstance(clip.get(name, {}), Mapping):
            raise FormatError(f"{where}: {name} is {_short(clip[name])}: expected an object")
    try:
        Skeleton.from_json(clip.get("skeleton"))
        up_axis_from_json(clip.get("up_axis"))
    except ValueError as error:  # older samples have neither
        raise FormatError(f"{where}: {error}") from error
    numbers = [*clip.get("measures", {}).values(), *clip.get("clipped", {}).values(), clip.get("motion", 0.0)]
    if not all(type(number) in (int, float) for number in numbers):
        raise FormatError(f"{where}: motion, measures or clipped contains a value that is not a number")
    return clip


def decode_image(data: bytes, where: object, image_size: int | None = None) -> Image.Image:
    """Decode an image of a view. Its size is checked before any pixel is decoded.

    Args:
        data: lossless WebP, RGBA.
        where: name of the member, for messages.
        image_size: announced pixels per side; None allows any square of at most 4,096.

    Raises:
        FormatError: if it is not a WebP image of that size.
    """
    try:
        with Image.open(io.BytesIO(data), formats=["WEBP"]) as image:
            width, height = image.size
            expected = image_size or min(width, MOST["image_size"])
            if (width, height) != (expected, expected):
                raise FormatError(f"{where}: has {width}×{height} pixels, expected {expected}×{expected}")
            image.load()
            return image.copy()
    except FormatError:
        raise
    except Exception as error:  # image decoders raise errors of many types for damaged data
        raise FormatError(f"{where}: cannot read image ({reason(error)})") from error


def _is_count(value: object, most: float = math.inf) -> bool:
    return type(value) is int and 0 <= value <= most


def _short(value: object) -> str:
    text = repr(value)
    return text if len(text) <= 80 else f"{text[:77]}..."
