"""Checks a sample: complete, decodable, and consistent with `clip.json` and the settings.

Checks yield pairs of a member's suffix and what is wrong with it.
"""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from PIL import Image

from helix4d.assets.skeleton import Skeleton, up_axis_from_json
from helix4d.core import FormatError, Helix4DError, NewerError
from helix4d.core.documents import parse_document, parse_json
from helix4d.core.messages import reason
from helix4d.curation.config import parse_resolutions
from helix4d.curation.shards.members import DEPTH, DEPTH_OF_0_3, SAMPLE, vxz_member
from helix4d.curation.shards.tokens import count_tokens
from helix4d.curation.shards.track_files import TRACKS_MEMBER, decode_tracks
from helix4d.render import Camera, Lights
from helix4d.render.scene.fixed_views import fixed_azimuths
from helix4d.render.scene.passes import decode_depth, decode_normal
from helix4d.voxelize import decode_vxz, morton_codes

Finding = tuple[str, str]
Read = Callable[[str], bytes]
SETTINGS = ("frames", "views", "resolution", "image_size", "seed")
PER_FRAME = ("times_s", "triangles", "voxels", "tokens", "vanished_area")
_CENTERED = 1e-6


def check_sample(
    key: str,
    members: Collection[str],
    read: Read,
    lost: Collection[str],
    settings: Mapping[str, Any],
    config_sha256: str,
) -> Iterator[Finding]:
    """Find everything that is wrong with a sample.

    Args:
        key: key of the sample.
        members: suffixes of its members in the shard's index.
        read: function that returns the bytes of a member.
        lost: those of `members` that cannot be read, which are reported elsewhere.
        settings: settings of the output.
        config_sha256: hash of the settings.

    Raises:
        NewerError: if the sample was written by a newer version.
    """
    passes = bool(settings.get("passes"))
    names = view_names(settings["views"], settings.get("fixed_views", ""))
    tracks = int(settings.get("tracks", 0))
    sides = parse_resolutions(settings["resolution"])
    present = frozenset(members) - frozenset(lost)
    clip: Mapping[str, Any] = {}
    problem = ""
    if "clip.json" in present:
        try:
            clip = parse_document(read("clip.json"), SAMPLE, "clip.json")
        except NewerError:
            raise
        except FormatError as error:
            problem = str(error).removeprefix("clip.json: ")
    frames = _frames_of(clip, settings)
    depth = DEPTH_OF_0_3 if any(suffix.endswith(DEPTH_OF_0_3) for suffix in members) else DEPTH
    yield from _check_members(members, member_suffixes(frames, names, passes, bool(tracks), sides[1:], depth))
    if problem:
        yield "clip.json", problem
    elif clip:
        yield from (
            ("clip.json", what) for what in _check_clip(key, clip, {**settings, "frames": frames}, config_sha256)
        )
    for side in sides:
        facts = clip if side == sides[0] else _entry(clip.get("other_resolutions"), str(side))
        for frame in range(frames):
            if (suffix := vxz_member(frame, None if side == sides[0] else side)) in present:
                counts = [_entry(_entry(facts, name), frame) for name in ("voxels", "tokens")]
                yield from ((suffix, what) for what in _check_ovoxel(read, suffix, side, *counts))
    if tracks and TRACKS_MEMBER in present:
        yield from ((TRACKS_MEMBER, what) for what in _check_tracks(read, frames, tracks))
    for view in names:
        if (suffix := f"{view}.json") in present:
            yield from ((suffix, what) for what in _check_view(read, suffix, settings["image_size"]))
        for frame in range(frames):
            name = f"{view}_frame_{frame:02d}"
            if (suffix := f"{name}.webp") in present:
                yield from ((suffix, what) for what in _check_image(read, suffix, settings["image_size"]))
            for suffix, decode in ((f"{name}.{depth}", decode_depth), (f"{name}.normal.exr", decode_normal)):
                if suffix in present:
                    yield from ((suffix, what) for what in _check_pass(read, suffix, decode, settings["image_size"]))


def _frames_of(clip: Mapping[str, Any], settings: Mapping[str, Any]) -> int:
    """Return how many frames a sample must have: one if it is static and the settings allow that."""
    static = settings.get("static", "never")
    return 1 if static == "only" or (static == "also" and clip.get("frames") == 1) else int(settings["frames"])


def view_names(views: int, fixed_views: str = "") -> list[str]:
    """Return the names of the views of a sample, random ones first: `view_00`, ..., `fixed_00`, ...

    Args:
        views: number of random views.
        fixed_views: names of the fixed views, as in the settings of an output.
    """
    fixed = len(fixed_azimuths(fixed_views))
    return [*(f"view_{view:02d}" for view in range(views)), *(f"fixed_{view:02d}" for view in range(fixed))]


def member_suffixes(
    frames: int,
    views: Sequence[str],
    passes: bool = False,
    tracks: bool = False,
    other_resolutions: Sequence[int] = (),
    depth: str = DEPTH,
) -> list[str]:
    """Return the suffixes of a complete sample with the given views, sorted. Depth images end in `depth`."""
    names = ["clip.json", *([TRACKS_MEMBER] if tracks else [])]
    names += [vxz_member(frame, side) for side in (None, *other_resolutions) for frame in range(frames)]
    kinds = ("webp", depth, "normal.exr") if passes else ("webp",)
    for view in views:
        names.append(f"{view}.json")
        names += [f"{view}_frame_{frame:02d}.{kind}" for frame in range(frames) for kind in kinds]
    return sorted(names)


def _check_members(members: Collection[str], complete: Collection[str]) -> Iterator[Finding]:
    expected, present = set(complete), set(members)
    for what, names in (("missing", expected - present), ("does not belong to a sample", present - expected)):
        yield from ((name, what) for name in sorted(names))


def _check_clip(key: str, clip: Mapping[str, Any], settings: Mapping[str, Any], config_sha256: str) -> Iterator[str]:
    prefix, _, number = key.rpartition("_")
    exact = {"key": key, "config_sha256": config_sha256, **{name: settings[name] for name in SETTINGS}}
    exact["resolution"] = parse_resolutions(settings["resolution"])[0]
    for name, expected in exact.items():
        if clip.get(name) != expected:
            yield f"{name} is {clip.get(name)!r}, expected {expected!r}"
    if not str(clip.get("content_sha256")).startswith(prefix):
        yield f"content_sha256 is {clip.get('content_sha256')!r}, expected it to start with {prefix} like the key"
    index = clip["clip"].get("index") if isinstance(clip.get("clip"), Mapping) else None
    window = clip.get("window")
    suffix = "" if window is None else f"w{window:02d}" if type(window) is int else f"w{window!r}"
    if f"{index}{suffix}" != number:
        found = f"{index!r}" if window is None else f"{index!r} and its window {window!r}"
        yield f"the index of the clip is {found}, expected {number} as in the key"
    for name in PER_FRAME:
        values = clip.get(name)
        if not isinstance(values, list) or len(values) != settings["frames"]:
            yield f"{name}: expected {settings['frames']} numbers, one per frame"
        elif not all(_is_number(value) for value in values):
            yield f"{name} contains a value that is not a finite number"
        elif name == "times_s" and values != sorted(values):
            yield "times_s is not in ascending order"
        elif name in ("voxels", "tokens") and not values[0]:
            yield f"{name}: the first frame is empty"
    normalization = clip.get("normalization")
    if not isinstance(normalization, Mapping) or not (
        _is_number(normalization.get("scale"))
        and normalization["scale"] > 0
        and isinstance(center := normalization.get("center"), list)
        and len(center) == 3
        and all(map(_is_number, center))
    ):
        yield f"normalization is {normalization!r}, expected a positive scale and a center of three numbers"
    measures = clip.get("measures", {})  # older samples have none
    if not isinstance(measures, Mapping) or not all(map(_is_number, measures.values())):
        yield f"measures is {measures!r}, expected a number for each name"
    try:
        Skeleton.from_json(clip.get("skeleton"))
        up_axis_from_json(clip.get("up_axis"))
    except ValueError as error:  # older samples have neither
        yield str(error)
    if settings.get("engine") == "auto" and settings["views"] + len(fixed_azimuths(settings.get("fixed_views", ""))):
        engine = clip.get("engine")
        if not isinstance(engine, Mapping) or engine.get("name") not in ("cycles", "raster"):
            yield f"engine is {engine!r}, expected the one that --engine auto chose, cycles or raster"
    if not _is_number(clip.get("motion")):
        yield f"motion is {clip.get('motion')!r}, expected a number"


def _check_ovoxel(read: Read, suffix: str, resolution: int, voxels: object, tokens: object) -> Iterator[str]:
    try:
        ovoxel = decode_vxz(read(suffix))
    except FormatError as error:
        yield f"does not decode: {error}"
        return
    coords = ovoxel.coords
    if ovoxel.resolution != resolution:
        yield f"has {ovoxel.resolution} voxels per side, expected {resolution}"
    if len(coords) and not (coords.min() >= 0 and coords.max() < resolution):
        yield f"coords range from {coords.min()} to {coords.max()}, expected 0 to {resolution - 1}"
    elif not (np.diff(morton_codes(coords)) > 0).all():
        yield "coords are not unique and in Morton order"
    elif ovoxel.resolution == resolution:
        for name, counted, recorded in (("voxels", len(coords), voxels), ("tokens", count_tokens(ovoxel), tokens)):
            if recorded is not None and counted != recorded:
                yield f"contains {counted} {name}, but clip.json records {recorded}"


def _check_tracks(read: Read, frames: int, points: int) -> Iterator[str]:
    try:
        tracks = decode_tracks(read(TRACKS_MEMBER), frames, points, TRACKS_MEMBER)
    except FormatError as error:
        yield str(error).removeprefix(f"{TRACKS_MEMBER}: ")
        return
    where = tracks.positions[tracks.present]
    if not (np.isfinite(where).all() and np.abs(where).max(initial=0.0) <= 0.5):
        yield "a position is not inside the cube"
    if not tracks.present[tracks.frame].all():
        yield f"a point is not present in frame {tracks.frame}, on whose surface all were drawn"


def _check_view(read: Read, suffix: str, image_size: int) -> Iterator[str]:
    try:
        view = parse_json(read(suffix), suffix, "view")
        camera = Camera.from_json(view["camera"])
        Lights.from_json(view["lights"])
    except (ValueError, KeyError, TypeError, IndexError, Helix4DError) as error:
        yield f"not a valid camera with lights ({type(error).__name__}: {error})"
        return
    if camera.image_size != image_size:
        yield f"image_size is {camera.image_size}, expected {image_size}"
    x, y, z = camera.extrinsics[:3, 3]
    if not (abs(x) <= _CENTERED * z and abs(y) <= _CENTERED * z):
        yield f"the camera does not look at the origin, whose camera coordinates are {[x, y, z]}"


def _check_pass(read: Read, suffix: str, decode: Callable[[bytes], np.ndarray], image_size: int) -> Iterator[str]:
    try:
        values = decode(read(suffix))
    except FormatError as error:
        yield str(error)
        return
    if values.shape[:2] != (image_size, image_size):
        yield f"has {values.shape[1]}×{values.shape[0]} pixels, expected {image_size}×{image_size}"
    elif not bool(np.isfinite(values).all()):
        yield "contains a value that is not finite"


def _check_image(read: Read, suffix: str, image_size: int) -> Iterator[str]:
    try:
        with Image.open(io.BytesIO(read(suffix)), formats=["WEBP"]) as image:
            if image.mode != "RGBA" or image.size != (image_size, image_size):
                width, height = image.size
                yield f"has {width}×{height} pixels in mode {image.mode}, expected {image_size}×{image_size} in RGBA"
                return
            rgba = np.asarray(image)
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        yield f"does not decode: {reason(error)}"
        return
    if rgba[rgba[..., 3] == 0].any():
        yield "has nonzero color where alpha is 0"


def _entry(values: object, place: int | str) -> object:
    """Return an entry of a list or an object from a file, None if there is none."""
    if isinstance(values, Mapping):
        return values.get(place)
    return values[place] if isinstance(values, list) and isinstance(place, int) and place < len(values) else None


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)
