"""Stills become Helix4DBench: the manifest of its 52 videos, Wan2.2, matting and verification (docs/bench.md).

The exported names need neither a GPU nor Ray: the manifest, and the processing of stills and frames.
"""

from helix4d.bench_builder.frames import choose_frames, crop_frames, pad_still, shared_square
from helix4d.bench_builder.manifest import (
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
