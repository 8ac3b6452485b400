"""Reads captions and tags of a collection as metadata, in any of the formats that hubs publish, bounded in size.

Values in an unknown format are counted and omitted.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Mapping
from typing import Any

log = logging.getLogger("helix4d.curation")

_LONGEST = 4000
"""Maximum number of characters of a caption's text, and of a tag."""
_MOST = 64
"""Maximum number of entries of an object or a list."""
_DEEPEST = 2
"""Maximum nesting depth of objects and lists in a caption."""


class UnknownFormError(ValueError):
    """An annotation has an unknown format, or is too large."""


def read_caption(value: object) -> Any:
    """Return a caption: a string, or an object or list of strings and numbers, without empty ones.

    Raises:
        UnknownFormError: for any other value, or if it contains no text.
    """
    found = _plain(value, 0)
    if not any(isinstance(text, str) for text in _leaves(found)):
        raise UnknownFormError("contains no text")
    return found


def read_tags(value: object) -> list[str]:
    """Return tags, given as strings, as objects with a `name`, or as one string with commas; each once, in order.

    Raises:
        UnknownFormError: for any other value.
    """
    entries = value.split(",") if isinstance(value, str) else value
    if not isinstance(entries, list) or len(entries) > _MOST:
        raise UnknownFormError(f"is not a list of at most {_MOST} tags")
    names = [entry.get("name") if isinstance(entry, Mapping) else entry for entry in entries]
    texts = [name.strip() for name in names if isinstance(name, str) and len(name) <= _LONGEST]
    if len(texts) < len(names):
        raise UnknownFormError("contains a tag that is neither a text nor an object with a name")
    return list(dict.fromkeys(filter(None, texts)))


def read_column(name: str, values: Mapping[str, Any], assets: int, read: Callable[[object], Any]) -> dict[str, Any]:
    """Read a column of many assets, and log how many have it and how many have an unknown format.

    Args:
        name: name of the column, for the log.
        values: name of an asset -> value, for the assets that have one.
        assets: number of all assets.
        read: reads a value, `read_caption` or `read_tags`.

    Returns:
        Name of an asset -> value, without values that are empty or have an unknown format.
    """
    found: dict[str, Any] = {}
    unknown: dict[str, str] = {}
    for asset, value in values.items():
        try:
            found[asset] = read(value)
        except UnknownFormError as error:
            unknown[asset] = str(error)
    log.info("%s: known for %d of %d assets", name, sum(map(bool, found.values())), assets)
    if unknown:
        first, what = min(unknown.items())
        log.warning("%s: left out for %d assets, such as %r, whose %s %s", name, len(unknown), first, name, what)
    return {asset: value for asset, value in found.items() if value}


def _plain(value: object, depth: int) -> Any:
    if isinstance(value, str):
        if len(value) > _LONGEST:
            raise UnknownFormError(f"has a text of more than {_LONGEST:,} characters")
        return value.strip()
    if isinstance(value, bool | int) or (isinstance(value, float) and math.isfinite(value)):
        return value
    if depth > _DEEPEST or not isinstance(value, Mapping | list):
        raise UnknownFormError("is neither a text nor an object or list of texts")
    if len(value) > _MOST:
        raise UnknownFormError(f"has more than {_MOST} entries")
    if isinstance(value, list):
        return [part for part in (_plain(entry, depth + 1) for entry in value if entry is not None) if part != ""]
    parts = {str(name): _plain(entry, depth + 1) for name, entry in value.items() if entry is not None}
    return {name: part for name, part in parts.items() if part not in ("", [], {})}


def _leaves(value: Any) -> Iterable[object]:
    if isinstance(value, Mapping | list):
        for part in value.values() if isinstance(value, Mapping) else value:
            yield from _leaves(part)
    elif value != "":
        yield value
