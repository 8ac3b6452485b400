from __future__ import annotations

from unittest import mock

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.unwrap import Unwrapped, unwrap_blocks, unwrap_xatlas
from tests.packages import needs
from tests.voxelize.meshes import icosphere, painted_sphere, surface

METHODS = {"xatlas": lambda v, f, s: unwrap_xatlas(v, f, s), "blocks": lambda v, f, s: unwrap_blocks(v, f, 64, s)}


def areas(points: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Signed, of triangles in the plane."""
    a, b, c = (points[faces[:, k]].astype(np.float64) for k in range(3))
    return 0.5 * ((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0])


def cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


def covered_twice(cut: Unwrapped, size: int) -> float:
    """Share of the texels with a face that have a second one."""
    counts = np.zeros((size, size), int)
    y, x = np.mgrid[:size, :size]
    for face in cut.faces:
        a, b, c = cut.uvs[face].astype(np.float64) * size - 0.5
        left, top = np.maximum(np.floor(np.minimum(np.minimum(a, b), c)).astype(int), 0)
        right, bottom = np.ceil(np.maximum(np.maximum(a, b), c)).astype(int) + 1
        points = np.stack([x[top:bottom, left:right], y[top:bottom, left:right]], axis=-1)
        area = cross(b - a, c - a)
        if abs(area) > 1e-12:
            weights = [cross(q - p, points - p) / area for p, q in ((a, b), (b, c), (c, a))]
            counts[top:bottom, left:right] += np.min(weights, axis=0) > 1e-6
    return float((counts > 1).sum() / (counts > 0).sum())


@pytest.mark.parametrize("method", [pytest.param("xatlas", marks=needs("xatlas")), "blocks"])
def test_the_mesh_is_the_same_and_its_charts_do_not_overlap(method: str) -> None:
    ovoxel = painted_sphere(64)
    vertices, faces = surface(ovoxel)
    cut = METHODS[method](vertices, faces, 512)
    assert np.array_equal(cut.origin[cut.faces], faces)
    assert cut.uvs.min() >= 0
    assert cut.uvs.max() <= 1
    assert covered_twice(cut, 512) < 0.002


def test_blocks_stretch_little_and_mirror_nothing() -> None:
    ovoxel = painted_sphere(64)
    vertices, faces = surface(ovoxel)
    cut = unwrap_blocks(vertices, faces, 64, 512)
    flat = areas(cut.uvs, cut.faces)
    corners = vertices[faces].astype(np.float64)
    real = 0.5 * np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    large = real > np.median(real) / 4
    # v runs downwards, so a face seen from outside runs clockwise in UVs.
    assert (flat[large] < 0).mean() > 0.99
    ratio = np.abs(flat[large]) / real[large]
    assert np.quantile(ratio, 0.95) / np.quantile(ratio, 0.05) < 1.9


@settings(max_examples=20, deadline=None)
@given(st.integers(0, 3), st.sampled_from([64, 100, 256]), st.floats(0.05, 0.45))
def test_every_texture_size_is_used_and_kept(subdivisions: int, size: int, radius: float) -> None:
    vertices, faces = icosphere(subdivisions, radius)
    cut = unwrap_blocks(vertices, faces, 64, size)
    assert np.array_equal(cut.origin[cut.faces], faces)
    texels = cut.uvs * size
    assert texels.min() >= 1
    assert texels.max() <= size - 1
    assert np.abs(areas(texels, cut.faces)).sum() > 0.05 * size**2


def test_both_methods_bake_the_same_colors() -> None:
    ovoxel = painted_sphere(64)
    vertices, faces = surface(ovoxel)
    with mock.patch("helix4d.voxelize.mesh.unwrap.XATLAS_FACES", 0):
        mesh = bake_mesh(vertices, faces, ovoxel, 512)
    column, row = np.clip(mesh.uvs * 512, 0, 511).astype(int).T
    error = np.abs(mesh.base_color[row, column, :3] / 255 - (mesh.vertices + 0.5)).max(axis=1)
    assert np.quantile(error, 0.99) < 0.03
    assert set(np.unique(mesh.metallic_roughness[..., 1])) == {127}


def test_a_texture_too_small_is_refused() -> None:
    ovoxel = painted_sphere(64)
    with pytest.raises(ConfigError, match="do not fit into a texture of 16 pixels"):
        unwrap_blocks(*surface(ovoxel), 64, 16)
