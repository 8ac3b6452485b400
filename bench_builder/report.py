"""Contact sheet of a build: one row per video, with its still first, then frames at uniform times."""

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
"""Pixels per side, just below the limit of WebP."""
_GAPS = 20
"""Pixels between rows, including labels."""


def write_contact_sheet(path: Path, manifest: Manifest, videos: Path, stills: Path) -> int:
    """Show every complete video and return their number. Without any, no file is written.

    Raises:
        NewerError: if a newer version of helix4d wrote one of them.
    """
    complete = [(entry, facts) for entry in manifest.entries if (facts := _facts(videos / entry.id)) is not None]
    if not complete:
        return 0
    pixels = max(8, min(_PIXELS, _LARGEST // len(complete) - _GAPS))
    rows, labels = [], []
    for entry, facts in complete:
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
    return len(complete)


def _facts(folder: Path) -> dict[str, Any] | None:
    try:
        return read_entry(folder)
    except NewerError:
        raise
    except FormatError as error:
        # Beyond this run's --limit: a later run rebuilds it.
        log.warning("left out of the contact sheet: %s", error)
        return None


def _thumbnail(path: Path, pixels: int) -> np.ndarray:
    """Return the image, centered in RGBA (pixels, pixels, 4)."""
    with Image.open(path) as image:
        small = image.convert("RGBa")
        small.thumbnail((pixels, pixels), Image.Resampling.LANCZOS)
        page = Image.new("RGBA", (pixels, pixels))
        page.paste(small.convert("RGBA"), ((pixels - small.width) // 2, (pixels - small.height) // 2))
    return np.asarray(page)
