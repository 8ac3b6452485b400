"""`.vxz` files survive a round trip, and corrupt ones are refused with a FormatError."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError, FormatError
from helix4d.voxelize import OVoxel, decode_vxz, encode_vxz, read_vxz, read_vxz_info, write_vxz
from helix4d.voxelize.files.header import MAX_VOXELS
from helix4d.voxelize.ovoxel import morton_codes
from tests.packages import installed, needs

COMPRESSIONS = ["zstd", "lzma", "deflate", "none"] if installed("zstandard") else ["lzma", "deflate", "none"]
FIELDS = ("coords", "dual_vertices", "intersected", "base_color", "metallic", "roughness", "alpha")


def random_ovoxel(seed: int, count: int, resolution: int) -> OVoxel:
    rng = np.random.default_rng(seed)
    coords = np.unique(rng.integers(0, resolution, (count, 3)), axis=0).astype(np.int32)
    coords = coords[np.argsort(morton_codes(coords))]
    count = len(coords)

    def channels(width: int) -> np.ndarray:
        return rng.integers(0, 256, (count, width), np.uint8)

    return OVoxel(
        resolution,
        coords,
        channels(3).astype(np.float32) / np.float32(255),
        rng.random((count, 3)) < 0.5,
        channels(3),
        channels(1),
        channels(1),
        channels(1),
    )


@settings(max_examples=60, deadline=None)
@given(
    st.integers(0, 2**32),
    st.sampled_from([0, 1, 7, 300]),
    st.sampled_from([1, 2, 100, 256, 1024]),
    st.sampled_from(COMPRESSIONS),
    st.sampled_from([2, 64, 256, 1024]),
    st.sampled_from(["as_is", "none", "all"]),
)
def test_round_trip(seed: int, count: int, resolution: int, compression: str, chunk: int, interleave: str) -> None:
    level = 1 if compression == "lzma" else None
    ovoxel = random_ovoxel(seed, count, resolution)
    data = encode_vxz(ovoxel, compression, level, chunk, interleave)
    assert data == encode_vxz(ovoxel, compression, level, chunk, interleave)
    again = decode_vxz(data)
    assert again.resolution == resolution
    for name in FIELDS:
        np.testing.assert_array_equal(getattr(again, name), getattr(ovoxel, name), err_msg=name)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_corrupt_files_raise_format_errors_only(data: st.DataObject) -> None:
    compression = data.draw(st.sampled_from(COMPRESSIONS))
    interleave = data.draw(st.sampled_from(["as_is", "none", "all"]))
    level = 1 if compression != "none" else 0
    good = bytearray(encode_vxz(random_ovoxel(1, 200, 64), compression, level, 32, interleave))
    if data.draw(st.booleans()):
        good = good[: data.draw(st.integers(0, len(good) - 1))]
    else:
        for _ in range(data.draw(st.integers(1, 4))):
            good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    try:
        found = decode_vxz(bytes(good))
    except FormatError:
        return
    assert len(found) <= 8 * len(good)


def with_header(data: bytes, **changes: object) -> bytes:
    end = int.from_bytes(data[4:8], "big")
    text = json.dumps({**json.loads(data[8:end]), **changes}).encode()
    return data[:4] + (8 + len(text)).to_bytes(4, "big") + text + data[end:]


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"filter": "parent"}, "parent"),
        ({"compression": "brotli"}, "brotli"),
        ({"compression": ["zstd"]}, "compression"),
        ({"num_voxel": 2**60}, "num_voxel"),
        ({"num_voxel": -1}, "num_voxel"),
        ({"num_voxel": 3}, "more than|larger|truncated|corrupt"),
        ({"num_voxel": 999}, "declares 999"),
        ({"chunk_size": 96}, "chunk_size"),
        ({"attr_interleave": "some"}, "attr_interleave"),
        ({"attr": [["dual_vertices", 2]]}, "bytes"),
        ({"attr": []}, "missing"),
        ({"attr": 7}, "attr"),
        ({"chunks": [{}]}, "ptr"),
        ({"chunks": [{"idx": [0, 0, 1 << 40], "ptr": [0, 1]}]}, "idx"),
        ({"chunks": [{"idx": [0, 0, 0], "ptr": [0, 1 << 30]}]}, "truncated"),
        ({"resolution": 2}, "resolution is 2"),
    ],
)
def test_hostile_headers(changes: dict[str, object], message: str) -> None:
    data = encode_vxz(random_ovoxel(3, 100, 64), "deflate")
    with pytest.raises(FormatError, match=message):
        decode_vxz(with_header(data, **changes))


@needs("zstandard")
def test_decompression_bombs_are_refused() -> None:
    import zstandard

    bomb = zstandard.ZstdCompressor().compress(bytes(1 << 28))
    data = encode_vxz(random_ovoxel(3, 1, 64))
    end = int.from_bytes(data[4:8], "big")
    chunk = {"idx": [0, 0, 0], "ptr": [0, len(bomb)], "svo": [0, len(bomb)]}
    with pytest.raises(FormatError, match="more than the 8 bytes"):
        decode_vxz(with_header(data[:end] + bomb, chunks=[chunk]))
    assert MAX_VOXELS * 8 <= 1 << 29


@needs("zstandard")
def test_files_and_streams(tmp_path: Path) -> None:
    ovoxel = random_ovoxel(5, 50, 128)
    write_vxz(tmp_path / "a.vxz", ovoxel)
    stream = io.BytesIO()
    write_vxz(stream, ovoxel)
    assert stream.getvalue() == (tmp_path / "a.vxz").read_bytes()
    stream.seek(0)
    np.testing.assert_array_equal(read_vxz(stream).coords, read_vxz(tmp_path / "a.vxz").coords)
    info = read_vxz_info(tmp_path / "a.vxz")
    assert (info.voxels, info.resolution, info.compression, info.level) == (len(ovoxel), 128, "zstd", 3)
    (tmp_path / "b.vxz").write_bytes(b"VXZ")
    with pytest.raises(FormatError, match=r"b\.vxz"):
        read_vxz(tmp_path / "b.vxz")
    with pytest.raises(FormatError, match=r"b\.vxz"):
        read_vxz_info(tmp_path / "b.vxz")


def test_the_empty_ovoxel() -> None:
    data = encode_vxz(OVoxel.empty(512))
    assert len(decode_vxz(data)) == 0
    assert decode_vxz(data).resolution == 512


def test_voxels_out_of_order_or_outside_are_refused() -> None:
    """An octree of voxels in another order would be unreadable."""
    ovoxel = random_ovoxel(3, 400, 64)
    rows = {name: getattr(ovoxel, name) for name in FIELDS}
    for broken in (
        OVoxel(64, **{name: array[::-1].copy() for name, array in rows.items()}),
        OVoxel(64, **{name: np.repeat(array, 2, axis=0) for name, array in rows.items()}),
        OVoxel(32, **rows),
        OVoxel(64, **(rows | {"coords": ovoxel.coords - 32})),
    ):
        with pytest.raises(ConfigError):
            encode_vxz(broken, chunk_size=16)


@needs("zstandard")
def test_dual_vertices_are_truncated_and_stable() -> None:
    count = 256
    base = random_ovoxel(2, 400, 64)
    dual = np.zeros((len(base), 3), np.float32)
    dual[:count, 0] = np.arange(count, dtype=np.float32) / np.float32(255)
    dual[:count, 1] = 0.999
    ovoxel = OVoxel(64, base.coords, dual, *(getattr(base, name) for name in FIELDS[2:]))
    again = decode_vxz(encode_vxz(ovoxel))
    np.testing.assert_array_equal(again.dual_vertices[:, 0], dual[:, 0])
    assert np.all(again.dual_vertices[:count, 1] == np.float32(254) / np.float32(255))


def test_invalid_settings_are_refused() -> None:
    ovoxel = OVoxel.empty(8)
    for arguments in ({"compression": "gzip"}, {"level": 99}, {"chunk_size": 100}, {"interleave": "odd"}):
        with pytest.raises(ConfigError):
            encode_vxz(ovoxel, **arguments)  # type: ignore[arg-type]
