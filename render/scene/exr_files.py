"""Reads and writes OpenEXR files. What the library prints about a broken file becomes part of the error instead."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np

from helix4d.core import FormatError
from helix4d.core.captured import captured_output
from helix4d.core.messages import reproducible
from helix4d.core.storage import fault_in

_MESSAGE_CHARACTERS = 200


def read_exr(path: Path, check_size: Callable[[int, int], None] = lambda width, height: None) -> dict[str, np.ndarray]:
    """Read the channels of a file.

    Args:
        path: the file, which is untrusted.
        check_size: called with width and height in pixels before any pixel is decoded; raises an error to refuse them.

    Returns:
        Name of the channel -> (H, W) array.

    Raises:
        FormatError: if it is not an OpenEXR file, is damaged, or has channels of other sizes; does not name the file.
        OSError: if storage fails.
    """
    import OpenEXR

    with open(path, "rb"):  # raises OSError if the file cannot be opened
        pass
    with captured_output(1, 2) as output:
        try:
            with OpenEXR.File(str(path), header_only=True) as image:
                low, high = (np.asarray(corner, np.int64) for corner in image.header()["dataWindow"])
            width, height = (high - low + 1).tolist()
            check_size(width, height)
            with OpenEXR.File(str(path), separate_channels=True) as image:
                channels = {name: channel.pixels for name, channel in image.channels().items()}
        except (RuntimeError, ValueError, KeyError, TypeError) as error:
            raise _unreadable(f"{output.tail()}\n{error}", path) from error
    if any(pixels.shape != (height, width) for pixels in channels.values()):
        raise FormatError(f"not an OpenEXR file (channels without {width}×{height} pixels)")
    return channels


def write_exr(path: Path, channels: Mapping[str, np.ndarray]) -> None:
    """Write (H, W) arrays as a scan-line file with ZIP compression.

    Raises:
        OSError: if storage fails.
    """
    import OpenEXR

    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    with captured_output(1, 2) as output:
        try:
            OpenEXR.File(header, dict(channels)).write(str(path))
        except RuntimeError as error:
            raise fault_in(f"{error}\n{output.tail()}", path) or error from error


def _unreadable(text: str, path: Path) -> Exception:
    if fault := fault_in(text, path):
        return fault
    lines = dict.fromkeys(line.strip() for line in text.replace(str(path), path.name).splitlines() if line.strip())
    return FormatError(f"not an OpenEXR file ({reproducible('; '.join(lines))[:_MESSAGE_CHARACTERS]})")
