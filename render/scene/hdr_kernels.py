"""Compiled loops of `helix4d.render.scene.hdr_files`."""

from __future__ import annotations

import numba
import numpy as np


@numba.njit(cache=True, nogil=True)
def decode_rows(  # type: ignore[no-untyped-def]
    data,  # (B,) uint8: the file's scanlines
    pixels,  # (H, W, 4) uint8, out: R, G, B and the shared exponent
):
    """Decode both kinds of Radiance's run-length encoding; returns whether the data was complete and valid."""
    height, width, _ = pixels.shape
    at, end = 0, len(data)
    for row in range(height):
        if (
            8 <= width < 32768
            and at + 4 <= end
            and data[at] == 2
            and data[at + 1] == 2
            and np.int64(data[at + 2]) * 256 + data[at + 3] == width
        ):
            at += 4
            for channel in range(4):
                column = 0
                while column < width:
                    if at >= end:
                        return False
                    count = np.int64(data[at])
                    at += 1
                    run = count > 128
                    if run:
                        count -= 128
                    if count == 0 or column + count > width or at + (1 if run else count) > end:
                        return False
                    for step in range(count):
                        pixels[row, column + step, channel] = data[at if run else at + step]
                    at += 1 if run else count
                    column += count
            continue
        column, shift = 0, 0
        while column < width:
            if at + 4 > end:
                return False
            if data[at] == 1 and data[at + 1] == 1 and data[at + 2] == 1:  # repeat the previous pixel
                count = np.int64(data[at + 3]) << shift
                if column == 0 or shift > 16 or column + count > width:
                    return False
                for step in range(count):
                    pixels[row, column + step] = pixels[row, column - 1]
                column += count
                shift += 8
            else:
                pixels[row, column] = data[at : at + 4]
                column += 1
                shift = 0
            at += 4
    return True
