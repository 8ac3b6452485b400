"""Official files are read exactly, and files that we write have the same content."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from helix4d.voxelize import decode_vxz, encode_vxz, read_vxz, read_vxz_info
from helix4d.voxelize.files.vxz import decode_vxz_arrays
from helix4d.voxelize.ovoxel import morton_codes
from tests.conftest import NO_PARITY, PARITY, files
from tests.packages import needs, skip_without

FIXTURES = files(PARITY / "vxz", "*.vxz")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_official_files(path: Path) -> None:
    if "zstd" in path.stem:
        skip_without("zstandard")
    data = path.read_bytes()
    info, coords, stored = decode_vxz_arrays(data)
    assert len(coords) == info.voxels == read_vxz_info(path).voxels
    assert np.all(np.diff(morton_codes(coords)) > 0)
    ovoxel = read_vxz(path)
    level = 1 if info.compression == "lzma" else info.level  # lzma 9 takes 700 MB and a second a chunk
    again = encode_vxz(ovoxel, info.compression, level, info.chunk_size)
    info_again, coords_again, stored_again = decode_vxz_arrays(again)
    np.testing.assert_array_equal(coords_again, coords)
    assert info_again.attributes == info.attributes
    for name, values in stored.items():
        np.testing.assert_array_equal(stored_again[name], values, err_msg=name)
    if info.compression == "none":
        assert again[info_again.payload :] == data[info.payload :]
    _compare_with_the_converter(path, ovoxel.resolution)


@needs("zstandard")
def test_all_files_of_an_asset_hold_the_same() -> None:
    if not FIXTURES:
        pytest.skip(NO_PARITY)
    groups: dict[str, list[Path]] = {}
    for path in FIXTURES:
        groups.setdefault(path.stem.rsplit("_", 2)[0], []).append(path)
    for paths in groups.values():
        expected = decode_vxz(paths[0].read_bytes())
        for path in paths[1:]:
            found = decode_vxz(path.read_bytes())
            for name in ("coords", "dual_vertices", "intersected", "base_color", "metallic", "roughness", "alpha"):
                np.testing.assert_array_equal(getattr(found, name), getattr(expected, name), err_msg=path.name)


def _compare_with_the_converter(path: Path, resolution: int) -> None:
    """If there is a fixture with attributes of the same asset, the file must have exactly its values."""
    fixture = PARITY / "ovoxel" / f"pbr_{path.stem.rsplit('_', 3)[0]}.safetensors"
    if not fixture.is_file():
        return
    tensors = load_file(fixture)
    if f"coords_{resolution}" not in tensors:
        return
    coords = tensors[f"coords_{resolution}"].astype(np.int32)
    order = np.argsort(morton_codes(coords))
    _, found, stored = decode_vxz_arrays(path.read_bytes())
    np.testing.assert_array_equal(found, coords[order])
    flags = tensors[f"intersected_{resolution}"][order].astype(np.uint8) @ np.array([1, 2, 4], np.uint8)
    np.testing.assert_array_equal(stored["intersected"][:, 0], flags)
    for name in ("base_color", "metallic", "roughness", "alpha"):
        np.testing.assert_array_equal(stored[name], tensors[f"{name}_{resolution}"][order], err_msg=name)
    dual = (tensors[f"dual_vertices_{resolution}"][order] * np.float32(255)).astype(np.uint8)
    np.testing.assert_array_equal(stored["dual_vertices"], dual)
