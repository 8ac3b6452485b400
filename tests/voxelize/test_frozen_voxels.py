"""Dual grids, attributes, `.vxz` files and extracted meshes are the frozen ones."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.voxelize import decode_vxz, encode_vxz, morton_codes, read_vxz_info
from tests.data.frozen import VXZ, group, load
from tests.data.recipes import voxelize as recipe
from tests.packages import skip_without

DUAL_GRIDS, ATTRIBUTES, OVOXEL, MESH = (load(name) for name in ("dual_grids", "attributes", "ovoxel", "mesh"))


@pytest.fixture(scope="module")
def dual_grids() -> dict[str, np.ndarray]:
    return recipe.dual_grids()


@pytest.fixture(scope="module")
def attributes() -> dict[str, np.ndarray]:
    return recipe.sample_attributes()


@pytest.mark.parametrize("case", sorted({key.rpartition(".")[0] for key in DUAL_GRIDS}))
def test_dual_grid(dual_grids: dict[str, np.ndarray], case: str) -> None:
    found, frozen = group(dual_grids, case), group(DUAL_GRIDS, case)
    np.testing.assert_array_equal(found["coords"], frozen["coords"])
    np.testing.assert_array_equal(found["intersected"], frozen["intersected"])
    # Nearly equal minima of a quadric may lie far apart in their voxel, so 1 of 200 may differ.
    near = np.abs(found["dual_vertices"] - frozen["dual_vertices"]).max(axis=1) <= 1e-3
    assert near.mean() >= 0.995


@pytest.mark.parametrize("name", sorted({key.split(".")[0] for key in ATTRIBUTES}))
def test_attributes(attributes: dict[str, np.ndarray], name: str) -> None:
    found, frozen = group(attributes, name), group(ATTRIBUTES, name)
    codes, frozen_codes = morton_codes(found["coords"]), morton_codes(frozen["coords"])
    _, ours, theirs = np.intersect1d(codes, frozen_codes, return_indices=True)
    # The last bit of a position decides whether a triangle reaches a voxel: 1 of 1000 may come or go.
    assert len(codes) + len(frozen_codes) - 2 * len(ours) <= len(frozen_codes) / 1000
    for attribute in recipe.ATTRIBUTES:
        error = np.abs(found[attribute][ours].astype(int) - frozen[attribute][theirs]).max(axis=1)
        assert (error <= 2).mean() >= 0.995, attribute


@pytest.mark.parametrize("name", recipe.VXZ_OPTIONS)
def test_vxz_files_are_read_exactly(name: str) -> None:
    data = (VXZ / f"{name}.vxz").read_bytes()
    options = recipe.VXZ_OPTIONS[name]
    if options["compression"] == "zstd":
        skip_without("zstandard")
    info = read_vxz_info(data)
    assert (info.compression, info.chunk_size) == (options["compression"], options.get("chunk_size", 256))
    ovoxel = decode_vxz(data)
    assert ovoxel.resolution == 16
    for field, frozen in OVOXEL.items():
        np.testing.assert_array_equal(getattr(ovoxel, field), frozen, err_msg=field)


@pytest.mark.parametrize("name", [name for name, options in recipe.VXZ_OPTIONS.items() if "none" in options.values()])
def test_uncompressed_vxz_files_are_written_to_the_byte(name: str) -> None:
    """What a compressor makes of the same bytes depends on its version, so the others are only read."""
    written = encode_vxz(recipe.painted_ovoxel(OVOXEL), **recipe.VXZ_OPTIONS[name])
    assert written == (VXZ / f"{name}.vxz").read_bytes()


def test_mesh_of_an_ovoxel() -> None:
    found = recipe.extracted_meshes(OVOXEL)
    assert sorted(found) == sorted(MESH)
    np.testing.assert_allclose(found.pop("vertices"), MESH["vertices"], atol=1e-7)
    for split, faces in found.items():
        np.testing.assert_array_equal(faces, MESH[split], err_msg=split)
