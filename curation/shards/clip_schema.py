"""The JSON Schema of `clip.json`, published with every output as `clip.schema.json`.

Other fields are allowed, because newer versions may add fields and readers must ignore unknown ones.
"""

from __future__ import annotations

from typing import Any

from helix4d.curation.shards.members import MOST, SAMPLE

CLIP_SCHEMA_FILE = "clip.schema.json"

_TEXT: dict[str, Any] = {"type": "string"}
_NUMBER: dict[str, Any] = {"type": "number"}
_COUNT: dict[str, Any] = {"type": "integer", "minimum": 0}


def clip_schema() -> dict[str, Any]:
    """Return the schema, JSON Schema 2020-12."""
    counts = {
        "voxels": _list(_COUNT, "voxels of each frame"),
        "tokens": _list(_COUNT, "blocks of 16³ voxels with a voxel, of each frame"),
        "vanished_area": _list(_NUMBER, "share of each frame's surface that has no voxel"),
    }
    fields: dict[str, dict[str, Any]] = {
        "version": {"const": SAMPLE.version},
        "key": {**_TEXT, "pattern": "^[0-9a-f]{16}_[0-9]{1,6}(w[0-9]{2,6})?$"},
        "asset": {**_TEXT, "description": "name in the source"},
        "content_sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$", "description": "hash of the file and its resources"},
        "clip": {
            "type": "object",
            "properties": {"name": {"type": ["string", "null"]}, "index": _COUNT},
            "required": ["name", "index"],
            "description": "animation in the file",
        },
        "window": {**_COUNT, "description": "index of the window, with --sampling window"},
        "times_s": _list(_NUMBER, "time of each frame in seconds"),
        "frames": {"type": "integer", "minimum": 1, "maximum": MOST["frames"]},
        "views": {**_COUNT, "maximum": MOST["views"]},
        "resolution": {"type": "integer", "minimum": 1, "maximum": MOST["resolution"]},
        "image_size": {**_COUNT, "maximum": MOST["image_size"]},
        "tracks": {**_COUNT, "maximum": MOST["tracks"]},
        "fixed_views": _list(_NUMBER, "azimuth of each fixed view in degrees"),
        "seed": {"type": "integer"},
        **counts,
        "other_resolutions": {
            "type": "object",
            "additionalProperties": {"type": "object", "properties": counts, "required": ["voxels", "tokens"]},
        },
        "normalization": {
            "type": "object",
            "properties": {"scale": _NUMBER, "center": {**_list(_NUMBER, ""), "minItems": 3, "maxItems": 3}},
            "required": ["scale", "center"],
            "description": "normalized = (world - center) * scale; world in meters, Z up",
        },
        "motion": _NUMBER,
        "measures": _numbers("inputs of the filters"),
        "license": {**_TEXT, "description": "cc0, by, by-nc, ...; empty if unknown"},
        "geometry_hash": _TEXT,
        "triangles": _list(_COUNT, "triangles of each frame"),
        "clipped": _numbers("view -> mean share of its visible pixels that are brighter than white"),
        "extras": {"type": "object", "description": "metadata in the file, without a fixed schema"},
        "metadata": {"type": "object", "description": "metadata of the source, without a fixed schema"},
        "warnings": _list(_TEXT, "what was ignored or repaired"),
        "config_sha256": {**_TEXT, "pattern": "^[0-9a-f]{64}$"},
    }
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "clip.json of a Helix4D sample",
        "type": "object",
        "properties": fields,
        "required": [
            *("version", "key", "asset", "content_sha256", "clip", "times_s", "frames", "views", "resolution"),
            *("image_size", "seed", "voxels", "tokens", "vanished_area", "normalization", "extras", "warnings"),
        ],
    }


def _list(items: dict[str, Any], description: str) -> dict[str, Any]:
    return {"type": "array", "items": items, "description": description}


def _numbers(description: str) -> dict[str, Any]:
    return {"type": "object", "additionalProperties": _NUMBER, "description": description}
