"""The list of assets that go into no shard: what `helix4d filter` writes and `helix4d curate --exclude` reads.

It names contents, not files: a renamed file stays excluded, a changed one must be judged again.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.core import AssetState, FormatError, ReasonCode, Schema, write_json
from helix4d.curation.plan.plan import KEY_DIGITS
from helix4d.curation.sources.listing import Exclusion

EXCLUSIONS = Schema("exclusion list", version=1, oldest=1, rewrite="run `helix4d filter` again")
_PREFIX = re.compile(rf"[0-9a-f]{{{KEY_DIGITS}}}")


@dataclass(frozen=True)
class ExcludedAsset:
    """An entry of the list.

    Attributes:
        asset: its name when it was judged, for people.
        key_prefix: of its samples: the first digits of its content's hash.
        why: reason and sentence.
    """

    asset: str
    key_prefix: str
    why: Exclusion


def write_exclusions(path: Path, excluded: list[ExcludedAsset], settings: Mapping[str, Any]) -> None:
    """Atomically write a list, sorted by key, with the settings that it was made with."""
    entries = exclusions_to_json({one.key_prefix: one.why for one in excluded})
    names = {one.key_prefix: one.asset for one in excluded}
    listed = {prefix: {**entry, "asset": names[prefix]} for prefix, entry in entries.items()}
    write_json(path, {"version": EXCLUSIONS.version, "settings": settings, "excluded": listed})


def read_exclusions(path: Path) -> dict[str, Exclusion]:
    """First half of a key -> why no asset with this content goes into a shard.

    Raises:
        FormatError: if it is no such list.
        NewerError: if it is newer than this program.
    """
    try:
        content = json.loads(path.read_bytes())
    except OSError as error:
        raise FormatError(f"{path}: cannot be read ({error})") from error
    except ValueError as error:
        raise FormatError(f"{path}: not an exclusion list ({error})") from error
    EXCLUSIONS.check(content, path)
    return exclusions_from_json(content.get("excluded"), path)


def exclusions_to_json(exclusions: Mapping[str, Exclusion]) -> dict[str, Any]:
    """Exclusions as JSON."""
    return {prefix: {"reason": why.reason, "message": why.message} for prefix, why in sorted(exclusions.items())}


def exclusions_from_json(content: Any, where: object) -> dict[str, Exclusion]:
    """The inverse of `exclusions_to_json`; further fields of an entry are for people.

    Raises:
        FormatError: if it is not that.
    """
    try:
        found = {
            prefix: Exclusion(ReasonCode(entry["reason"]), str(entry["message"])) for prefix, entry in content.items()
        }
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise FormatError(f"{where}: not a list of exclusions ({type(error).__name__}: {error})") from error
    for prefix, why in found.items():
        if not _PREFIX.fullmatch(prefix):
            raise FormatError(f"{where}: exclusion of {prefix!r}: expected the first {KEY_DIGITS} digits of a hash")
        if why.reason.state is not AssetState.FILTERED:
            raise FormatError(f"{where}: exclusion of {prefix} as {why.reason}, which is no reason to filter")
    return found
