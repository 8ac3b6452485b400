"""Writes small video files."""

from __future__ import annotations

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np

LIGHT = {
    "libx264": {"qp": "0", "preset": "ultrafast"},
    "libx265": {"x265-params": "log-level=none:qp=4:bframes=0:pools=none:frame-threads=1"},
}


def write_film(
    path: Path,
    pictures: Sequence[np.ndarray],
    codec: str = "libx264",
    pixels: str = "yuv444p",
    times: Sequence[int] | None = None,
    options: dict[str, str] | None = None,
    turn: tuple[float, bool, bool] | None = None,
    colors: dict[str, int] | None = None,
    shape: float | None = None,
) -> Path:
    """Encode pictures uint8 (H, W, 3 or 4) at 10 frames per second.

    `times` are in tenths of a second, `turn` is the display's rotation in degrees counterclockwise and its horizontal
    and vertical flip, `colors` are tags by the names of PyAV's attributes, `shape` is the aspect ratio of a pixel.
    """
    import av

    colors = colors or {}
    with av.open(str(path), "w") as container:
        stream: Any = container.add_stream(codec, rate=10, options=options or LIGHT.get(codec, {}))
        stream.height, stream.width = pictures[0].shape[:2]
        stream.pix_fmt = pixels
        if shape is not None:
            stream.codec_context.sample_aspect_ratio = Fraction(shape)
        if turn is not None:
            stream.set_display_rotation(*turn)
        for name, value in colors.items():
            setattr(stream, name, value)
        for number, picture in enumerate(pictures):
            layout = "rgba" if picture.shape[2] == 4 else "rgb24"
            frame = av.VideoFrame.from_ndarray(np.ascontiguousarray(picture), format=layout)
            frame = frame.reformat(format=pixels, dst_colorspace=colors.get("colorspace"))
            for name, value in colors.items():
                setattr(frame, name, value)
            frame.pts = number if times is None else times[number]
            container.mux(stream.encode(frame))
        container.mux(stream.encode())
    return path
