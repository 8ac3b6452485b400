"""Exclusion lists: written by `helix4d filter`, read by `helix4d curate --exclude`.

A list identifies assets by content: a renamed file stays excluded, a changed file does not.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.core import AssetState, FormatError, ReasonCode, Schema, write_json
from helix4d.core.documents import parse_document
from helix4d.curation.plan.plan import KEY_DIGITS
from helix4d.curation.sources.listing import Exclusion

EXCLUSIONS = Schema("exclusion list", version=1, oldest=1, rewrite="run `helix4d filter` again")
_PREFIX = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}")


@dataclass(frozen=True)
class ExcludedAsset:
    """An entry of an exclusion list.

    Attributes:
        asset: name of the asset when it was judged, for information only.
        key_prefix: first digits of the content hash, which start the keys of its samples.
        why: reason code and message.
    """

    asset: str
    key_prefix: str
    why: Exclusion


def write_exclusions(path: Path, excluded: list[ExcludedAsset], settings: Mapping[str, Any]) -> None:
    """Atomically write a list, sorted by key, with the settings of the filters."""
    entries = exclusions_to_json({one.key_prefix: one.why for one in excluded})
    names = {one.key_prefix: one.asset for one in excluded}
    listed = {prefix: {**entry, "asset": names[prefix]} for prefix, entry in entries.items()}
    write_json(path, {"version": EXCLUSIONS.version, "settings": settings, "excluded": listed})


def read_exclusions(path: Path) -> dict[str, Exclusion]:
    """Read a list: key prefix -> why assets with this content are excluded.

    Raises:
        FormatError: if the file is not an exclusion list.
        NewerError: if it was written by a newer version.
    """
    try:
        data = path.read_bytes()
    except OSError as error:
        raise FormatError(f"{path}: cannot read the exclusion list ({error.strerror})") from error
    return exclusions_from_json(parse_document(data, EXCLUSIONS, path).get("excluded"), path)


def exclusions_to_json(exclusions: Mapping[str, Exclusion]) -> dict[str, Any]:
    """Return exclusions as JSON, sorted by key prefix."""
    return {prefix: {"reason": why.reason, "message": why.message} for prefix, why in sorted(exclusions.items())}


def exclusions_from_json(content: Any, where: object) -> dict[str, Exclusion]:
    """Invert `exclusions_to_json`. Additional fields of an entry are ignored.

    Raises:
        FormatError: if an entry is malformed.
    """
    try:
        exclusions = {
            prefix: Exclusion(ReasonCode(entry["reason"]), str(entry["message"])) for prefix, entry in content.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{where}: malformed exclusion ({type(error).__name__}: {error})") from error
    for prefix, why in exclusions.items():
        if not _PREFIX.fullmatch(prefix):
            raise FormatError(f"{where}: exclusion {prefix!r}: expected the first {KEY_DIGITS} digits of a SHA-256")
        if why.reason.state is not AssetState.FILTERED:
            raise FormatError(f"{where}: exclusion {prefix}: {why.reason} is not a reason to filter an asset")
    return exclusions
