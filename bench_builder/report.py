"""The contact sheet: a row for each video, its still first, then frames spread over its time."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.bench_builder.entry import frame_file, read_entry
from helix4d.bench_builder.manifest import Manifest
from helix4d.core import FormatError, NewerError, write_bytes
from helix4d.curation.report.summary import sheet_bytes
from helix4d.render import contact_sheet

log = logging.getLogger("helix4d.bench")

_SHOWN = 8
_PIXELS = 128
_LARGEST = 16_000
"""Pixels per side that WebP holds, about."""
_GAPS = 20
"""Pixels between rows, labels included."""


def write_contact_sheet(path: Path, manifest: Manifest, videos: Path, stills: Path) -> int:
    """Show every video that is there and whole; returns how many. Nothing is written where there is none.

    Raises:
        NewerError: if a newer program wrote one of them.
    """
    found = [(entry, facts) for entry in manifest.entries if (facts := _facts(videos / entry.id)) is not None]
    if not found:
        return 0
    pixels = max(8, min(_PIXELS, _LARGEST // len(found) - _GAPS))
    rows, labels = [], []
    for entry, facts in found:
        count = facts["frames"]
        shown = [round(i) for i in np.linspace(0, count - 1, min(_SHOWN, count))]
        still = stills / entry.still
        first = [_thumbnail(still, pixels)] if still.is_file() else [np.zeros((pixels, pixels, 4), np.uint8)]
        rows.append(first + [_thumbnail(videos / entry.id / frame_file(number), pixels) for number in shown])
        measures = facts["measures"]
        texts = [entry.id, "", f"{entry.category}", "", f"flicker {measures['flicker']:.3f}", ""]
        texts += [f"drift {measures['drift']:.3f}"]
        labels.append((texts + [""] * len(rows[-1]))[: len(rows[-1])])
    write_bytes(path, sheet_bytes(contact_sheet(rows, labels)))
    return len(found)


def _facts(folder: Path) -> dict[str, Any] | None:
    try:
        return read_entry(folder)
    except NewerError:
        raise
    except FormatError as error:
        # Beyond this run's --limit: it is made again when its turn comes.
        log.warning("not on the contact sheet: %s", error)
        return None


def _thumbnail(path: Path, pixels: int) -> np.ndarray:
    """RGBA, (pixels, pixels, 4), the picture in the middle."""
    with Image.open(path) as image:
        small = image.convert("RGBa")
        small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
        page = Image.new("RGBA", (pixels, pixels))
        page.paste(small.convert("RGBA"), ((pixels - small.width) // 2, (pixels - small.height) // 2))
    return np.asarray(page)
