"""Properties of the dual grid that hold for any mesh."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.voxelize import DualGrid, GeometryError, dual_grid, extract_mesh_arrays
from helix4d.voxelize.convert import cpu
from helix4d.voxelize.convert.conversion import weld_labels
from helix4d.voxelize.kernels.topology_kernels import boundary_edges
from tests.voxelize.meshes import icosphere, quad


@st.composite
def soups(draw: st.DrawFn, most: int = 12) -> np.ndarray:
    """(F, 3, 3) float32 triangles, many of them with corners on grid planes, flat, or far smaller than a voxel."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32)))
    count = draw(st.integers(1, most))
    triangles = rng.uniform(-0.5, 0.5, (count, 3, 3))
    if draw(st.booleans()):
        triangles = np.round(triangles * 16) / 16
    if draw(st.booleans()):
        triangles = triangles[:, :1] + (triangles - triangles[:, :1]) * rng.choice([1e-4, 1e-2, 1], (count, 1, 1))
    return np.clip(triangles, -0.5, 0.5).astype(np.float32)


def convert(triangles: np.ndarray, resolution: int = 16, **options: float) -> DualGrid:
    vertices = triangles.reshape(-1, 3)
    return dual_grid(vertices, np.arange(len(vertices), dtype=np.int32).reshape(-1, 3), resolution, **options)


@settings(max_examples=60, deadline=None)
@given(soups(), st.sampled_from([1, 5, 16, 33]))
def test_every_voxel_touches_a_crossed_edge(triangles: np.ndarray, resolution: int) -> None:
    grid = convert(triangles, resolution)
    assert grid.coords.shape == grid.dual_vertices.shape == grid.intersected.shape
    assert np.all((grid.coords >= 0) & (grid.coords < resolution))
    assert np.all((grid.dual_vertices >= 0) & (grid.dual_vertices <= 1))
    around: set[tuple[int, ...]] = set()
    for axis in range(3):
        for corner in grid.coords[grid.intersected[:, axis]]:
            for db in range(2):
                for dc in range(2):
                    voxel = corner.copy()
                    voxel[(axis + 1) % 3] += db
                    voxel[(axis + 2) % 3] += dc
                    around.add(tuple(voxel.tolist()))
    assert around == set(map(tuple, grid.coords.tolist()))


@settings(max_examples=40, deadline=None)
@given(soups(), st.integers(0, 2**32))
def test_the_order_of_triangles_does_not_matter(triangles: np.ndarray, seed: int) -> None:
    grid = convert(triangles)
    permuted = convert(np.random.default_rng(seed).permutation(triangles))
    np.testing.assert_array_equal(permuted.coords, grid.coords)
    np.testing.assert_array_equal(permuted.intersected, grid.intersected)


@settings(max_examples=40, deadline=None)
@given(soups())
def test_degenerate_triangles_change_nothing(triangles: np.ndarray) -> None:
    grid = convert(triangles, boundary_weight=0.0)
    points = np.repeat(triangles[:, :1], 3, axis=1)
    segments = triangles.copy()
    segments[:, 2] = segments[:, 1]
    more = convert(np.concatenate([triangles, points, segments]), boundary_weight=0.0)
    np.testing.assert_array_equal(more.coords, grid.coords)
    np.testing.assert_array_equal(more.intersected, grid.intersected)
    np.testing.assert_array_equal(more.dual_vertices, grid.dual_vertices)


@settings(max_examples=40, deadline=None)
@given(soups())
def test_duplicates_add_no_voxel(triangles: np.ndarray) -> None:
    grid = convert(triangles)
    twice = convert(np.concatenate([triangles, triangles]))
    np.testing.assert_array_equal(twice.coords, grid.coords)
    np.testing.assert_array_equal(twice.intersected, grid.intersected)


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 2**32), st.tuples(*[st.integers(-4, 4)] * 3))
def test_a_shift_by_whole_voxels_shifts_the_coords(seed: int, shift: tuple[int, int, int]) -> None:
    # Multiples of 2^-12 within a quarter: every sum below is exact in float32.
    corners = np.random.default_rng(seed).integers(-1024, 1024, (8, 3, 3)) / 4096
    offset = np.array(shift)
    grid = convert(corners.astype(np.float32))
    moved = convert((corners + offset / 16).astype(np.float32))
    np.testing.assert_array_equal(np.sort(_keys(moved.coords - offset)), np.sort(_keys(grid.coords)))


@pytest.mark.parametrize("resolution", [24, 64])
def test_a_closed_sphere_comes_back_watertight(resolution: int) -> None:
    vertices, faces = icosphere(3)
    grid = dual_grid(vertices, faces, resolution)
    points, triangles = extract_mesh_arrays(resolution, grid.coords, grid.dual_vertices, grid.intersected, "aligned")
    ends = np.sort(triangles[:, [[0, 1], [1, 2], [2, 0]]].reshape(-1, 2), axis=1)
    _, uses = np.unique(ends, axis=0, return_counts=True)
    assert np.all(uses == 2)
    assert np.abs(np.linalg.norm(points, axis=1) - 0.45).max() < 1 / resolution
    assert len(points) - len(uses) + len(triangles) == 2


def test_a_plane_is_found_where_it_is() -> None:
    vertices, faces = quad(height=0.01)
    grid = dual_grid(vertices, faces, 32)
    height = (grid.coords[:, 2] + grid.dual_vertices[:, 2]) / 32 - 0.5
    np.testing.assert_allclose(height, 0.01, atol=1e-6)
    assert not grid.intersected[:, :2].any()


def test_an_empty_mesh_produces_an_empty_grid() -> None:
    for vertices in (np.zeros((0, 3), np.float32), np.zeros((5, 3), np.float32)):
        grid = dual_grid(vertices, np.zeros((0, 3), np.int32), 64)
        assert len(grid.coords) == 0
    tiny = np.array([[[0.01, 0.01, 0.01], [0.02, 0.01, 0.01], [0.01, 0.02, 0.01]]], np.float32)
    assert len(convert(tiny, 8).coords) == 0


@pytest.mark.parametrize("value", [0.51, -0.6, np.nan, np.inf])
def test_vertices_outside_are_refused(value: float) -> None:
    vertices, faces = quad()
    vertices[1, 0] = value
    with pytest.raises(GeometryError, match="face 0"):
        dual_grid(vertices, faces, 16)
    unused = np.concatenate([quad()[0], vertices[1:2]])
    assert len(dual_grid(unused, faces, 16).coords)


def test_indices_and_resolutions_out_of_range_are_refused() -> None:
    vertices, faces = quad()
    with pytest.raises(GeometryError, match="the mesh has 4"):
        dual_grid(vertices, faces + 1, 16)
    with pytest.raises(ValueError, match="2000"):
        dual_grid(vertices, faces, 2000)


def test_the_finest_grid_takes_memory_for_its_voxels_only() -> None:
    vertices, faces = icosphere(2, radius=0.02)
    grid = dual_grid(vertices, faces, 1024)
    assert 2000 < len(grid.coords) < 10000


def test_stacked_sheets_do_not_each_reserve_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory is reserved by area: hundreds of layers of hair cards once took more than the machine has."""

    class AskedError(Exception):
        pass

    def ask(_: object, side: int, voxels: int, with_attributes: bool) -> None:
        raise AskedError(voxels)

    monkeypatch.setattr(cpu._Store, "__init__", ask)
    vertices, faces = quad()
    with pytest.raises(AskedError) as caught:
        dual_grid(vertices, np.tile(faces, (1000, 1)), 1024)
    assert caught.value.args[0] < 1 << 25


def test_seams_are_welded_before_the_search_for_boundaries() -> None:
    vertices, faces = icosphere(1)
    loose = vertices[faces].reshape(-1, 3)
    separate = np.arange(len(loose), dtype=np.int32).reshape(-1, 3)
    labels = weld_labels([loose, loose], len(loose))
    assert len(boundary_edges(separate, labels)) == 0
    assert len(boundary_edges(separate, weld_labels([], len(loose)))) == len(loose)
    torn = loose.copy()
    torn[0] += np.float32(0.01)
    assert len(boundary_edges(separate, weld_labels([loose, torn], len(loose)))) > 0
    open_vertices, open_faces = quad()
    expected = [[0, 1], [1, 2], [2, 3], [3, 0]]
    found = boundary_edges(open_faces, weld_labels([open_vertices], 4))
    assert sorted(found.tolist()) == sorted(expected)


def test_a_fan_of_many_triangles_finds_its_rim() -> None:
    rim = 500
    faces = np.stack([np.zeros(rim, np.int32), *(np.arange(rim) + k for k in (0, 1))], axis=1)
    faces[:, 1] = 1 + faces[:, 1] % rim
    faces[:, 2] = 1 + faces[:, 2] % rim
    edges = boundary_edges(faces.astype(np.int32), np.arange(rim + 1, dtype=np.int32))
    assert len(edges) == rim
    assert 0 not in edges


def _keys(coords: np.ndarray) -> np.ndarray:
    return (coords[:, 0] * 4096 + coords[:, 1]) * 4096 + coords[:, 2]


@pytest.mark.parametrize(("resolution", "below"), [(96, True), (48, True), (64, False), (512, False)])
def test_a_corner_on_a_plane_of_the_grid_is_on_the_official_side(resolution: int, below: bool) -> None:
    """The official voxel size is a float32: 48 / 96 exceeds one half, so a corner at one half is below plane 48.

    A triangle crosses the plane if its corners are on both sides of it. At a power of two the plane is exact, and its
    points belong to what is above.
    """
    plane = resolution // 2
    left = np.float32([[-0.3, -0.4, 0.1], [0.0, -0.4, 0.1], [0.0, 0.4, 0.1]])
    right = left * np.float32([-1, 1, 1])
    faces = np.int32([[0, 1, 2]])
    crossings = [_crossings_of_plane(dual_grid(v, faces, resolution), plane) for v in (left, right)]
    assert [count > 0 for count in crossings] == [not below, below]


def _crossings_of_plane(grid: DualGrid, plane: int) -> int:
    """How many crossed edges along z lie in the plane x = `plane`, at the maximum corners of the voxels before it."""
    return int(grid.intersected[grid.coords[:, 0] == plane - 1][:, 2].sum())
