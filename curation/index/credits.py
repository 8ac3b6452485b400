"""Finds title, author and source of a sample, which `by` licenses require to be stated.

Files and collections use different names for them, so common names are tried in order, first in the metadata of the
source and then in that of the file.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

_TITLE = ("title", "name")
_AUTHOR = ("author", "artist", "creator", "user", "uploader", "username", "copyright")
_SOURCE = ("source", "source_url", "viewerurl", "viewer_url", "page", "url", "uri")
_PERSON = ("displayname", "name", "username")
_LONGEST = 1000


@dataclass(frozen=True)
class Credit:
    """Attribution of a sample; "" for a field that neither the file nor its source states."""

    title: str
    author: str
    source: str


def credit_of(extras: Mapping[str, Any], metadata: Mapping[str, Any]) -> Credit:
    """Return the credit of a sample.

    Args:
        extras: metadata of the file.
        metadata: metadata of the source: a manifest's row or a collection's entry.
    """
    return Credit(*(_first((metadata, extras), names) for names in (_TITLE, _AUTHOR, _SOURCE)))


def _first(places: Iterable[Mapping[str, Any]], names: tuple[str, ...]) -> str:
    for place in places:
        by_name = {str(name).lower(): value for name, value in place.items()}
        for name in names:
            if text := _text(by_name.get(name)):
                return text
    return ""


def _text(value: Any) -> str:
    if isinstance(value, str):
        return " ".join(value.split())[:_LONGEST]
    if isinstance(value, Mapping):  # a person, as Sketchfab describes one
        return _first((value,), _PERSON)
    if isinstance(value, list):
        return ", ".join(filter(None, map(_text, value)))[:_LONGEST]
    return ""
