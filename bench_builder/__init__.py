"""Stills become Helix4DBench: the manifest of its 52 videos, and what is done to stills and frames.

The videos themselves (Wan2.2, matting, verification) are not built yet: docs/bench.md says what is missing.
"""

from bench_builder.frames import (
    choose_frames,
    crop_frames,
    pad_still,
    shared_square,
)
from bench_builder.manifest import (
    HELIX4DBENCH,
    Category,
    Entry,
    Framing,
    Generator,
    Manifest,
    Source,
    full_negative_prompt,
    full_prompt,
    read_manifest,
    still_url,
    verify_stills,
)

__all__ = [
    "HELIX4DBENCH",
    "Category",
    "Entry",
    "Framing",
    "Generator",
    "Manifest",
    "Source",
    "choose_frames",
    "crop_frames",
    "full_negative_prompt",
    "full_prompt",
    "pad_still",
    "read_manifest",
    "shared_square",
    "still_url",
    "verify_stills",
]
