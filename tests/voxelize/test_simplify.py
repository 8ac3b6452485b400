"""Simplified meshes keep the shape, the orientation and the attributes of the full surface."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.voxelize.mesh.baking import bake_mesh
from helix4d.voxelize.mesh.nearest import Surface
from helix4d.voxelize.mesh.simplify import simplify
from tests.packages import needs, skip_without
from tests.voxelize.meshes import icosphere, painted_sphere, surface

skip_without("meshoptimizer")


@needs("trimesh")
@settings(max_examples=10, deadline=None)
@given(st.integers(0, 2**31))
def test_the_nearest_point_is_that_of_all_triangles(seed: int) -> None:
    """Against every triangle in turn, by another implementation; points lie inside and outside of the grid."""
    from trimesh.triangles import closest_point

    rng = np.random.default_rng(seed)
    vertices = rng.uniform(-0.5, 0.5, (40, 3))
    faces = rng.integers(0, 40, (150, 3))
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])]
    points = rng.uniform(-1, 1, (50, 3))
    found, owner = Surface.build(vertices, faces).nearest(points)
    each = closest_point(np.tile(vertices[faces], (50, 1, 1)), points.repeat(len(faces), axis=0)).reshape(50, -1, 3)
    distances = np.linalg.norm(each - points[:, None], axis=2)
    assert np.linalg.norm(found - points, axis=1) == pytest.approx(distances.min(axis=1), abs=1e-9)
    assert distances[np.arange(50), owner] == pytest.approx(distances.min(axis=1), abs=1e-9)


def test_a_budget_is_kept_and_so_are_shape_and_orientation() -> None:
    vertices, faces = icosphere(5)
    few = simplify(vertices, faces, 1000)
    assert 900 < len(few) <= 1000
    assert few.dtype == faces.dtype
    corners = vertices[few].astype(np.float64)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (np.einsum("fx,fx->f", normals, corners.mean(axis=1)) > 0).all()
    away = np.linalg.norm(Surface.build(vertices, few).nearest(vertices)[0] - vertices, axis=1)
    assert away.max() < 0.01
    assert simplify(vertices, faces, len(faces)) is faces
    with pytest.raises(ConfigError, match="budget is 0: must be at least 1"):
        simplify(vertices, faces, 0)


@needs("xatlas")
def test_texels_of_a_simplified_mesh_are_sampled_on_the_full_surface() -> None:
    ovoxel = painted_sphere(128)
    vertices, faces = surface(ovoxel)
    few = simplify(vertices, faces, 16)
    assert np.linalg.norm(vertices[few].mean(axis=1), axis=1).min() < 0.35, "faces cut deep into the sphere"
    with pytest.raises(ConfigError, match="have no voxel within 8 voxels"):
        bake_mesh(vertices, few, ovoxel, 64)
    mesh = bake_mesh(vertices, few, ovoxel, 64, full_faces=faces)
    points = mesh.vertices[mesh.faces].mean(axis=1)
    column, row = (mesh.uvs[mesh.faces].mean(axis=1) * 64).astype(int).T
    projected = points / np.linalg.norm(points, axis=1, keepdims=True) * 0.45
    assert np.abs(mesh.base_color[row, column, :3] / 255 - (projected + 0.5)).max() < 0.06
    outwards = mesh.vertices / np.linalg.norm(mesh.vertices, axis=1, keepdims=True)
    assert np.einsum("vx,vx->v", mesh.normals, outwards).min() > 0.98, "normals are the full surface's"
