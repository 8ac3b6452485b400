"""Read folders of images and animated WebP, PNG and GIF files: upright as their EXIF says, with their frame times."""

from __future__ import annotations

import re
from collections.abc import Iterator
from functools import partial
from pathlib import Path

import numpy as np
from PIL import ExifTags, Image, ImageSequence, UnidentifiedImageError

from helix4d.core import FormatError
from helix4d.model.conditioning.source_frame import SourceFrame, check_count, check_size

ANIMATIONS = {".webp", ".gif", ".png", ".apng"}

_STILLS = {".png", ".webp", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff"}
_UPRIGHT = {
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}
"""What undoes each value of EXIF's orientation (tag 0x0112)."""
_DEFAULT_DURATION_MS = 100.0  # of frames without a duration, as in browsers


def folder_frames(folder: Path) -> Iterator[SourceFrame]:
    """Yield the images of a folder in natural order, without times.

    Raises:
        FormatError: if an image cannot be read or is too large, or there are too many.
    """
    files = sorted((p for p in folder.iterdir() if p.suffix.lower() in _STILLS), key=_natural)
    for number, file in enumerate(files):
        check_count(number, folder)
        yield SourceFrame(None, partial(_still, file))


def animation_frames(path: Path) -> Iterator[SourceFrame]:
    """Yield the frames of an animated image; each is shown from the end of the frame before.

    Raises:
        FormatError: if the file cannot be read, or has too many or too large frames.
    """
    elapsed_ms = 0.0
    try:
        with Image.open(path) as image:
            check_size(image.width, image.height, path)
            orientation = _orientation(image)
            for number, frame in enumerate(ImageSequence.Iterator(image)):
                check_count(number, path)
                frame.load()  # WebP's durations are known only then
                yield SourceFrame(elapsed_ms / 1000, partial(_upright, frame, orientation, path))
                elapsed_ms += float(frame.info.get("duration") or _DEFAULT_DURATION_MS)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise FormatError(f"{path}: cannot read image ({error})") from error


def _still(path: Path) -> Image.Image:
    try:
        with Image.open(path) as image:
            check_size(image.width, image.height, path)
            return _upright(image, _orientation(image), path)
    except (OSError, UnidentifiedImageError, ValueError, SyntaxError) as error:
        raise FormatError(f"{path}: cannot read image ({error})") from error


def _orientation(image: Image.Image) -> int:
    return int(image.getexif().get(ExifTags.Base.Orientation, 1))


def _upright(image: Image.Image, orientation: int, path: Path) -> Image.Image:
    """Convert to 8-bit RGBA and undo EXIF's orientation."""
    if image.mode in ("I", "F"):
        raise FormatError(f"{path}: pixels of 32 bits per channel (mode {image.mode}): save it with 8 or 16 bits")
    if image.mode.startswith("I;16"):
        image = Image.fromarray((np.asarray(image) >> 8).astype(np.uint8), "L")
    rgba = image.convert("RGBA")
    return rgba.transpose(_UPRIGHT[orientation]) if orientation in _UPRIGHT else rgba


def _natural(path: Path) -> list[tuple[int, int, str]]:
    """Sort key that orders frame_2 before frame_10."""
    parts = re.split(r"(\d+)", path.name.lower())
    return [(0, int(part), "") if part.isdigit() else (1, 0, part) for part in parts]
