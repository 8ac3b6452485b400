"""The share of the area that voxelization loses."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import Clip, Frame, Material, Topology
from helix4d.voxelize import OVoxel, prepare_surface, vanished_area_share, voxelize_clip, voxelize_frame
from tests.voxelize.meshes import icosphere, quad


def clip_of(vertices: np.ndarray, faces: np.ndarray) -> Clip:
    topology = Topology(faces, np.zeros((0, len(faces), 3, 2), np.float32), np.zeros(len(faces), np.int32))
    return Clip("", 0, np.zeros(1), (Frame(vertices, np.zeros_like(vertices), topology),), (Material(),), ())


def share(vertices: np.ndarray, faces: np.ndarray, resolution: int) -> float:
    clip = clip_of(vertices, faces)
    return vanished_area_share(clip.frames[0], voxelize_clip(clip, resolution)[0])


@pytest.mark.parametrize("resolution", [16, 50, 128])
def test_a_closed_surface_loses_nothing(resolution: int) -> None:
    assert share(*icosphere(3), resolution) == 0.0


def test_a_plane_on_grid_planes_loses_nothing_but_its_rim() -> None:
    assert share(*quad(height=0.0, size=0.75), 16) == 0.0


def test_specks_vanish_by_their_area() -> None:
    vertices, faces = quad(height=0.01, size=0.5)
    speck = np.array([[0.41, 0.41, 0.41], [0.42, 0.41, 0.41], [0.41, 0.42, 0.41]], np.float32)
    assert share(speck, np.array([[0, 1, 2]], np.int32), 16) == 1.0
    both = share(np.concatenate([vertices, speck]), np.concatenate([faces, [[4, 5, 6]]]).astype(np.int32), 16)
    assert both == pytest.approx(5e-5 / (0.25 + 5e-5), rel=1e-3)


def test_empty_frames_lose_nothing() -> None:
    clip = clip_of(np.zeros((3, 3), np.float32), np.array([[0, 1, 2]], np.int32))
    assert vanished_area_share(clip.frames[0], OVoxel.empty(64)) == 0.0


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32), st.floats(1e-3, 0.4))
def test_it_is_a_share_and_all_of_what_left_no_voxel(seed: int, size: float) -> None:
    rng = np.random.default_rng(seed)
    corners = np.clip(rng.uniform(-0.3, 0.3, (5, 1, 3)) + rng.uniform(-size, size, (5, 3, 3)), -0.5, 0.5)
    vertices = corners.reshape(-1, 3).astype(np.float32)
    clip = clip_of(vertices, np.arange(15, dtype=np.int32).reshape(-1, 3))
    ovoxel = voxelize_clip(clip, 32)[0]
    found = vanished_area_share(clip.frames[0], ovoxel)
    assert 0.0 <= found <= 1.0
    if len(ovoxel) == 0:
        assert found == 1.0


def test_one_preparation_serves_every_resolution() -> None:
    clip = clip_of(*icosphere(2))
    surface = prepare_surface(clip)
    for resolution in (32, 64, 100, 256):
        shared = voxelize_frame(clip.frames[0], surface, resolution)
        alone = voxelize_clip(clip, resolution)[0]
        np.testing.assert_array_equal(shared.coords, alone.coords)
        np.testing.assert_array_equal(shared.dual_vertices, alone.dual_vertices)
        np.testing.assert_array_equal(shared.base_color, alone.base_color)
