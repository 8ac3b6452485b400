from __future__ import annotations

from pathlib import Path

import numpy as np
import OpenEXR
import pytest

from helix4d.core import ConfigError
from helix4d.render.scene.hdr_files import read_hdr_file
from tests.render.maps import landscape, to_rgbe, write_hdr

LIGHT = landscape({(1.0, 0.0, 0.2): (200.0, 150.0, 90.0)}, 16)
QUANTIZED = np.ldexp(to_rgbe(LIGHT)[..., :3].astype(np.float32), to_rgbe(LIGHT)[..., 3:].astype(int) - 136)


def _new_runs(light: np.ndarray) -> bytes:
    """Encode each channel of a row separately, as runs of equal bytes and dumps of the others."""
    encoded = b""
    for row in to_rgbe(light):
        encoded += bytes([2, 2, len(row) >> 8, len(row) & 255])
        for channel in row.T:
            at = 0
            while at < len(channel):
                run = 1
                while at + run < len(channel) and run < 127 and channel[at + run] == channel[at]:
                    run += 1
                encoded += bytes([128 + run, channel[at]]) if run > 1 else bytes([1, channel[at]])
                at += run
    return encoded


def _old_runs(light: np.ndarray) -> bytes:
    """A pixel, then how often it comes again, in two bytes where once is not enough."""
    encoded = b""
    for row in to_rgbe(light):
        at = 0
        while at < len(row):
            run = 1
            while at + run < len(row) and (row[at + run] == row[at]).all():
                run += 1
            encoded += row[at].tobytes()
            again = run - 1
            while again:
                encoded += bytes([1, 1, 1, again & 255])
                again >>= 8
            at += run
    return encoded


@pytest.mark.parametrize("rows", [None, _new_runs(LIGHT), _old_runs(LIGHT)], ids=["flat", "new runs", "old runs"])
def test_all_three_encodings_of_radiance_files(tmp_path: Path, rows: bytes | None) -> None:
    write_hdr(tmp_path / "a.hdr", LIGHT, rows)
    found = read_hdr_file(tmp_path / "a.hdr")
    assert found.dtype == np.float32
    np.testing.assert_array_equal(found, QUANTIZED)
    assert np.abs(found - LIGHT).max() < LIGHT.max() / 128


def test_runs_longer_than_a_byte(tmp_path: Path) -> None:
    light = np.full((300, 600, 3), 0.75, np.float32)
    write_hdr(tmp_path / "a.hdr", light, _old_runs(light))
    np.testing.assert_array_equal(read_hdr_file(tmp_path / "a.hdr"), light)


@pytest.mark.parametrize("kind", [np.float16, np.float32])
def test_exr_files(tmp_path: Path, kind: type) -> None:
    light = LIGHT.astype(kind)
    light[0, 0] = [np.inf, -1.0, 0.0]
    planes = {name: np.ascontiguousarray(light[..., c]) for c, name in enumerate("RGB")}
    header = {"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}
    OpenEXR.File(header, planes).write(str(tmp_path / "a.exr"))
    found = read_hdr_file(tmp_path / "a.exr")
    np.testing.assert_array_equal(found[1:], light[1:].astype(np.float32))
    assert found[0, 0].tolist() == [65504.0, 0.0, 0.0]


def test_invalid_files_are_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "a.hdr"
    whole = _new_runs(LIGHT)
    for rows, what in (
        (whole[:-9], "truncated"),
        (b"\x02\x02\x00\x20\x00" + whole, "damaged"),
        (b"", "truncated"),
    ):
        write_hdr(path, LIGHT, rows)
        with pytest.raises(ConfigError, match=rf"a\.hdr: .*{what}"):
            read_hdr_file(path)
    for data, what in (
        (b"GIF89a", "not a Radiance file"),
        (b"#?RADIANCE\n\n+Y 4 +X 8\n" + bytes(128), "rows from top to bottom"),
        (b"#?RADIANCE\nFORMAT=32-bit_rle_xyze\n\n-Y 4 +X 8\n" + bytes(128), "XYZ"),
        (b"#?RADIANCE\n\n-Y 4 +X 9\n" + bytes(144), "twice as wide"),
        (b"#?RADIANCE\n\n-Y 400000 +X 800000\n", "exceed the limit"),
    ):
        path.write_bytes(data)
        with pytest.raises(ConfigError, match=what):
            read_hdr_file(path)
    broken = tmp_path / "b.exr"
    broken.write_bytes(b"no picture")
    with pytest.raises(ConfigError, match=r"b\.exr: not an OpenEXR"):
        read_hdr_file(broken)
    gray = {"Y": np.zeros((4, 8), np.float32)}
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, gray).write(str(broken))
    with pytest.raises(ConfigError, match="R, G and B"):
        read_hdr_file(broken)
    hole = {name: np.full((4, 8), np.nan, np.float32) for name in "RGB"}
    OpenEXR.File({"compression": OpenEXR.ZIP_COMPRESSION, "type": OpenEXR.scanlineimage}, hole).write(str(broken))
    with pytest.raises(ConfigError, match="NaN pixels"):
        read_hdr_file(broken)
