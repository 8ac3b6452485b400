"""Meshes extracted from O-Voxels agree with the official ones."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file

from helix4d.voxelize import extract_mesh_arrays
from tests.conftest import NO_PARITY, PARITY, files

FIXTURES = files(PARITY / "ovoxel", "mesh_*.safetensors")


@pytest.mark.parametrize("path", FIXTURES, ids=lambda path: path.stem)
def test_faces_and_vertices(path: Path) -> None:
    tensors = load_file(path)
    coords = tensors["coords"].astype(np.int32)
    resolution = int(path.stem.rsplit("_", 1)[1])
    dual, flags = tensors["dual_vertices"], tensors["intersected"].astype(bool)
    vertices, first = extract_mesh_arrays(resolution, coords, dual, flags, "first")
    np.testing.assert_array_equal(vertices, tensors["auto_vertices"])
    np.testing.assert_array_equal(_sorted(first), _sorted(tensors["auto_faces"]))
    _, weighted = extract_mesh_arrays(resolution, coords, dual, flags, "weight", tensors["split_weight"])
    np.testing.assert_array_equal(_sorted(weighted), _sorted(tensors["split_faces"]))


@pytest.mark.skipif(bool(FIXTURES), reason="fixtures are present")
def test_fixtures_are_present() -> None:
    pytest.skip(NO_PARITY)


def _sorted(faces: np.ndarray) -> np.ndarray:
    """Triangles in a canonical order; a triangle may start at any of its corners."""
    start = faces.argmin(axis=1)
    turned = np.stack([np.take_along_axis(faces, ((start + k) % 3)[:, None], axis=1)[:, 0] for k in range(3)], axis=1)
    return turned[np.lexsort(turned.T[::-1])]
