"""Turns the samples of a shard into rows of the index. Every value comes from the shard and its sidecar."""

from __future__ import annotations

import itertools
import json
from collections.abc import Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from helix4d.core import FormatError
from helix4d.curation.filters.licenses import license_text, parse_license
from helix4d.curation.filters.thresholds import FILTERS
from helix4d.curation.index.credits import credit_of
from helix4d.curation.places.folder import Place, file_in
from helix4d.curation.shards.reader import ShardReader

MEASURES = tuple(sorted({one.measure for one in FILTERS} | {one.instead for one in FILTERS if one.instead}))
"""Measures that have a column; measures of other versions are in the column `other`."""
_COLUMNS_OF_CLIP = frozenset(
    {"version", "key", "asset", "content_sha256", "clip", "window", "times_s", "frames", "views", "fixed_views"}
    | {"resolution", "other_resolutions", "image_size", "tracks", "seed", "measures", "motion", "license"}
    | {"geometry_hash", "triangles", "voxels", "tokens", "vanished_area", "extras", "metadata", "warnings"}
    | {"config_sha256", "normalization", "clipped"}
)
"""Fields of `clip.json` that are not copied to `other`: they have a column, or are useless for selecting samples."""
_AT_ONCE = 8
_BATCH = 16


def shard_rows(place: Place, shards: Iterable[str]) -> Iterator[list[dict[str, Any]]]:
    """Yield the rows of each shard, sorted by key. Only sidecars and each `clip.json` are read.

    Args:
        place: folder or URL of the output.
        shards: names of committed shards, `train/helix4d-000000`.

    Raises:
        FormatError: if a shard is damaged.
        StoreError: if a URL cannot be read.
    """
    rest = iter(shards)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while batch := list(itertools.islice(rest, _BATCH)):
            yield from pool.map(lambda name: _rows(place, name), batch)


def _rows(place: Place, name: str) -> list[dict[str, Any]]:
    where = file_in(place, f"{name}.tar")
    reader = ShardReader(where)
    rows = []
    for key, clip in reader.clips().items():
        try:
            row = _row(clip, reader.sample(key), f"{name}.tar", reader.sidecar["sha256"])
        except (AttributeError, TypeError, ValueError, RecursionError) as error:  # the shard was not written by Helix4D
            raise FormatError(
                f"{where}: {key}.clip.json: a field has an unexpected type ({error}): run `helix4d verify`"
            ) from error
        rows.append({column: _storable(value) for column, value in row.items()})
    return rows


def _row(clip: Mapping[str, Any], entry: Mapping[str, Any], shard: str, shard_sha256: str) -> dict[str, Any]:
    """Return a row: column -> value, in the order of the table."""
    extras, metadata = clip.get("extras", {}), clip.get("metadata", {})
    name = clip.get("license") or ""  # samples of older versions have none
    terms = parse_license(name) if name else None
    credit = credit_of(extras, metadata)
    measures = clip.get("measures", {"motion": clip.get("motion", 0.0)})
    other = {name: value for name, value in clip.items() if name not in _COLUMNS_OF_CLIP}
    if further := {name: value for name, value in measures.items() if name not in MEASURES}:
        other["measures"] = further
    return {
        "key": entry["key"],
        "asset": entry["asset"],
        "generation": 0,
        "shard": shard,
        "shard_sha256": shard_sha256,
        "offset": entry["offset"],
        "bytes": entry["bytes"],
        "members": [
            {"name": suffix, "offset": extent[0], "bytes": extent[1]}
            for suffix, extent in sorted(entry["members"].items())
        ],
        "content_sha256": entry["content_sha256"],
        "clip_name": entry["clip"]["name"],
        "clip_index": entry["clip"]["index"],
        "window": clip.get("window"),
        "frames": clip["frames"],
        "views": clip["views"],
        "fixed_views": clip.get("fixed_views", []),
        "resolution": clip["resolution"],
        "other_resolutions": [int(side) for side in clip.get("other_resolutions", {})],
        "image_size": clip["image_size"],
        "tracks": clip.get("tracks", 0),
        "seed": clip.get("seed"),
        "times_s": clip.get("times_s", []),
        "triangles": clip.get("triangles", []),
        "voxels": clip["voxels"],
        "tokens": clip["tokens"],
        "max_tokens": max(clip["tokens"]),
        "vanished_area": clip.get("vanished_area", []),
        "measures": {name: measures.get(name) for name in MEASURES},
        "geometry_hash": clip.get("geometry_hash", ""),
        "license": name,
        "license_text": license_text(extras, metadata),
        "attribution": terms and terms.by,
        "share_alike": terms and terms.sa,
        "non_commercial": terms and terms.nc,
        "no_derivatives": terms and terms.nd,
        "title": credit.title,
        "author": credit.author,
        "source": credit.source,
        "captions": list(_texts([metadata.get("caption"), metadata.get("captions")])),
        "warnings": clip.get("warnings", []),
        "metadata": _json(metadata),
        "extras": _json(extras),
        "other": _json(other),
        "config_sha256": clip.get("config_sha256", ""),
    }


def _texts(value: Any) -> Iterator[str]:
    """Yield the strings of a caption, whose format depends on the collection."""
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for part in value.values():
            yield from _texts(part)
    elif isinstance(value, list):
        for part in value:
            yield from _texts(part)


def _json(value: Mapping[str, Any]) -> str:
    return json.dumps(value, sort_keys=True, allow_nan=False)


def _storable(value: Any) -> Any:
    """Escape the characters that UTF-8 cannot encode: a file's name need not be valid UTF-8."""
    if isinstance(value, str):
        return value.encode("utf-8", "backslashreplace").decode()
    if isinstance(value, list):
        return [_storable(entry) for entry in value]
    return value
