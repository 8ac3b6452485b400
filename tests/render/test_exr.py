from __future__ import annotations

import struct

import numpy as np
import pytest

from core import FormatError
from render.exr import read_exr


def make_exr(channels: dict[str, np.ndarray], compression: int = 0) -> bytes:
    """A scan-line file by the letter of the format's description."""
    height, width = next(iter(channels.values())).shape
    kinds = {np.dtype("<f2"): 1, np.dtype("<f4"): 2}
    listed = b"".join(
        name.encode() + b"\0" + struct.pack("<iB3xii", kinds[channels[name].dtype], 0, 1, 1)
        for name in sorted(channels)
    )
    attributes = {
        "channels": ("chlist", listed + b"\0"),
        "compression": ("compression", bytes([compression])),
        "dataWindow": ("box2i", struct.pack("<4i", 0, 0, width - 1, height - 1)),
    }
    head = b"v/1\x01\x02\0\0\0"
    for name, (kind, value) in attributes.items():
        head += name.encode() + b"\0" + kind.encode() + b"\0" + struct.pack("<i", len(value)) + value
    lines = []
    for y in range(height):
        planes = b"".join(channels[name][y].tobytes() for name in sorted(channels))
        lines.append(struct.pack("<ii", y, len(planes)) + planes)
    return head + b"\0" + b"\0" * (8 * height) + b"".join(lines)


def test_channels_of_any_layer_come_back() -> None:
    rng = np.random.default_rng(0)
    channels = {
        "R": rng.random((3, 5)).astype("<f4"),
        "A": rng.random((3, 5)).astype("<f2"),
        "ViewLayer.Depth.Z": rng.random((3, 5)).astype("<f4"),
    }
    found = read_exr(make_exr(channels))
    assert set(found) == set(channels)
    for name, array in channels.items():
        np.testing.assert_array_equal(found[name], array)


def test_what_is_not_ours_is_a_format_error() -> None:
    good = make_exr({"R": np.zeros((2, 2), "<f4")})
    with pytest.raises(FormatError, match="not a single-part"):
        read_exr(b"PNG")
    with pytest.raises(FormatError, match="compression 3"):
        read_exr(make_exr({"R": np.zeros((2, 2), "<f4")}, compression=3))
    with pytest.raises(FormatError, match="ends at byte"):
        read_exr(good[:-1])
    with pytest.raises(FormatError):
        read_exr(good[:40])
