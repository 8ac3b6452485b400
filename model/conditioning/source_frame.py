"""A frame of a video before its pixels are converted: selecting frames needs only their times."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from helix4d.core import FormatError

MAX_PIXELS = 1 << 26
"""Maximum number of pixels of a frame; larger frames are refused before decoding."""
MAX_FRAMES = 1 << 14
"""Maximum number of frames that are decoded; longer sources are refused."""


@dataclass(frozen=True)
class SourceFrame:
    """One frame of a source.

    Attributes:
        time_s: presentation time in seconds since the first frame; None for the images of a folder.
        load: returns the frame upright, as an RGBA image with straight alpha. Valid until the next frame is requested.
    """

    time_s: float | None
    load: Callable[[], Image.Image]


def check_size(width: int, height: int, path: Path) -> None:
    """Raise `FormatError` if a frame has more than `MAX_PIXELS` pixels."""
    if width * height > MAX_PIXELS:
        raise FormatError(f"{path}: frames of {width} × {height} pixels exceed the limit of {MAX_PIXELS:,} pixels")


def check_count(number: int, path: Path) -> None:
    """Raise `FormatError` if frame `number` exceeds `MAX_FRAMES`."""
    if number >= MAX_FRAMES:
        raise FormatError(f"{path}: more than {MAX_FRAMES:,} frames: trim the video, or take a window near its start")
