"""Writes `CREDITS.md`: author, source and license of every sample. Texts from files are escaped."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from helix4d.curation.places.folder import Folder
from helix4d.curation.publish.facts import rows_of
from helix4d.curation.report.datacard import plain

_ADDRESS = re.compile(r"https?://[\w.~:/?#@!$&*+,;=%-]+", re.ASCII)


def credit_lines(folder: Folder) -> Iterator[str]:
    """Yield the lines of the file.

    Raises:
        FormatError: if the index is damaged.
        StoreError: if a URL cannot be read.
    """
    yield "# Credits"
    yield ""
    yield (
        "Authors, sources and licenses as stated by the files and their sources; they were not verified. The license "
        "in parentheses is the recognized one: cc0 is public domain, by requires attribution, sa share-alike, nc "
        "non-commercial use, and nd forbids derivatives."
    )
    yield ""
    yield "| sample | title | author | source | license |"
    yield "|---|---|---|---|---|"
    for _, row in rows_of(folder):
        cells = (
            f"`{row['key']}`",
            plain(row["title"] or row["asset"]),
            plain(row["author"]) or "not stated",
            _link(row["source"]) or "not stated",
            _license(row),
        )
        yield f"| {' | '.join(cells)} |"


def _license(row: dict[str, Any]) -> str:
    stated = plain(row["license_text"])
    understood = row["license"] or "unknown"
    return f"{stated} ({understood})" if stated else understood


def _link(text: str) -> str:
    return f"<{text}>" if _ADDRESS.fullmatch(text) else plain(text)
