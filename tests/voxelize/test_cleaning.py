from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.voxelize import dual_grid, extract_mesh_arrays
from helix4d.voxelize.mesh.cleaning import fill_holes, orient_faces, remove_small_components, vertex_normals
from tests.packages import needs
from tests.voxelize.meshes import icosphere, quad


@needs("trimesh")
@settings(max_examples=25, deadline=None)
@given(st.sets(st.integers(0, 319), max_size=6))
def test_holes_of_a_sphere_are_closed_and_oriented_outwards(removed: set[int]) -> None:
    import trimesh

    vertices, faces = icosphere(2)
    left = np.delete(faces, sorted(removed), axis=0)
    mesh = trimesh.Trimesh(*fill_holes(vertices.astype(np.float32), left, 10.0), process=False)
    # Holes that touch in a point are left open; every other one is closed.
    touching = any(
        set(faces[a]) & set(faces[b]) and len(set(faces[a]) & set(faces[b])) == 1
        for a in removed
        for b in removed
        if a < b
    )
    assert touching or mesh.is_watertight
    assert mesh.is_winding_consistent
    assert mesh.volume == pytest.approx(trimesh.Trimesh(vertices, faces).volume, rel=0.15)


def test_large_holes_stay_open() -> None:
    vertices, faces = icosphere(3)
    vertices = vertices.astype(np.float32)
    half = faces[vertices[faces].mean(axis=1)[:, 2] > 0]
    filled = fill_holes(vertices, half, 0.5)
    assert len(filled[1]) == len(half)
    assert len(fill_holes(vertices, half, 10.0)[1]) > len(half)
    assert fill_holes(vertices, faces[:0], 1.0)[1].shape == (0, 3)


@settings(deadline=None)
@given(st.floats(0, 1))
def test_small_components_are_removed_and_the_largest_stays(share: float) -> None:
    pieces = [icosphere(n)[1] for n in (2, 1, 0)]  # 320, 80 and 20 faces
    offsets = np.cumsum([0] + [int(p.max()) + 1 for p in pieces])
    faces = np.concatenate([p + o for p, o in zip(pieces, offsets, strict=False)]).astype(np.int32)
    kept = remove_small_components(faces, share)
    wanted = 320 + sum(n for n in (80, 20) if n >= share * 420)
    assert len(kept) == wanted
    assert np.array_equal(kept[:320], faces[:320])


def test_a_share_is_between_0_and_1() -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        remove_small_components(icosphere(0)[1], 2.0)


def test_the_surface_of_an_ovoxel_is_oriented_outwards() -> None:
    grid = dual_grid(*icosphere(3), 32)
    vertices, faces = extract_mesh_arrays(32, grid.coords, grid.dual_vertices, grid.intersected)
    outwards = vertices / np.linalg.norm(vertices, axis=1, keepdims=True)
    assert np.einsum("vk,vk->v", vertex_normals(vertices, faces), outwards).min() < -0.9, "as extracted, both ways"
    turned = orient_faces(vertices, faces)
    assert np.array_equal(np.sort(turned, axis=1), np.sort(faces, axis=1))
    assert np.einsum("vk,vk->v", vertex_normals(vertices, turned), outwards).min() > 0.9


@pytest.mark.parametrize("height", [0.4, -0.4])
@pytest.mark.parametrize("flipped", [False, True])
def test_a_flat_sheet_faces_away_from_the_rest(height: float, flipped: bool) -> None:
    """It encloses nothing, so its own volume says nothing; noise must not turn it from frame to frame."""
    ball, faces = icosphere(2, 0.2)
    sheet, halves = quad(height)
    bumps = np.random.default_rng(0).normal(0, 1e-4, sheet.shape)
    points = np.concatenate([ball, sheet + bumps])
    both = np.concatenate([faces, (halves[:, ::-1] if flipped else halves) + len(ball)])
    turned = orient_faces(points, both)
    corners = points[turned[-2:]]
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    assert (normals[:, 2] * height > 0).all()
    assert np.array_equal(turned[:-2], faces)


@needs("trimesh")
@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**31))
def test_any_flips_of_two_spheres_and_a_sheet_are_undone(seed: int) -> None:
    import trimesh

    rng = np.random.default_rng(seed)
    vertices, faces = icosphere(2)
    sheet = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], np.float64)
    points = np.concatenate([vertices, vertices * 0.3 + 2, sheet + 5])
    count = len(vertices)
    whole = np.concatenate([faces, faces + count, [[0, 1, 2], [0, 2, 3]] + np.int64(2 * count)]).astype(np.int32)
    mixed = np.where(rng.random(len(whole))[:, None] < 0.5, whole[:, ::-1], whole)[rng.permutation(len(whole))]
    turned = orient_faces(points, mixed)
    assert turned.dtype == np.int32
    mesh = trimesh.Trimesh(points, turned, process=False)
    assert mesh.is_winding_consistent
    for part, volume in zip(sorted(mesh.split(only_watertight=True), key=lambda m: -m.volume), (1, 0.027), strict=True):
        assert part.volume == pytest.approx(volume * trimesh.Trimesh(vertices, faces).volume)
