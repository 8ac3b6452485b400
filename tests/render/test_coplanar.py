from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from helix4d.assets import Material
from helix4d.render import RenderSettings, orbit_camera, sample_lights
from helix4d.render.cycles.coplanar import STEP, find_levels, moved_corners
from tests.render.clips import Part, box, clip, quad, sphere


def flipped(part: Part) -> Part:
    vertices, normals, faces, uvs = part
    return vertices, -normals, faces[:, ::-1], uvs[:, ::-1]


def cut_otherwise(part: Part) -> Part:
    """A quad split along its other diagonal."""
    vertices, normals, _, uvs = part
    faces = np.array([[1, 2, 3], [1, 3, 0]])
    return vertices, normals, faces, np.zeros_like(uvs)


def levels_of(*parts: Part) -> np.ndarray:
    return find_levels(clip(parts, [Material()] * len(parts)).frames)


def test_faces_that_only_touch_stay() -> None:
    for parts in ([box()], [sphere()], [box(), sphere(0.3)], [quad(0.0), quad(1e-4)]):
        assert not levels_of(*parts).any()


@pytest.mark.parametrize("twin", [lambda part: part, flipped, cut_otherwise])
def test_one_of_two_coinciding_faces_moves(twin: Callable[[Part], Part]) -> None:
    assert levels_of(quad(), twin(quad())).tolist() == [0, 0, 1, 1]
    assert levels_of(quad(), twin(quad()), quad()).tolist() == [0, 0, 1, 1, 2, 2]


def test_a_moved_face_goes_along_its_normal() -> None:
    shown = clip([quad(), quad()], [Material()] * 2)
    corners, normals = moved_corners(shown.frames[0], find_levels(shown.frames))
    assert corners.shape == normals.shape == (6, 3)
    np.testing.assert_allclose(corners[:, 1], -STEP, atol=1e-7)  # it faces -Y
    np.testing.assert_array_equal(normals, np.tile(np.float32([0, -1, 0]), (6, 1)))


@settings(deadline=None, max_examples=60)
@given(st.integers(0, 2**32 - 1), st.integers(2, 40))
def test_overlapping_faces_have_different_levels(seed: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    # Small and large triangles in two planes, so that many overlap.
    size = rng.choice([0.01, 0.1, 0.6], count)
    corners = rng.uniform(-0.5, 0.5, (count, 1, 2)) + size[:, None, None] * rng.uniform(-1, 1, (count, 3, 2))
    plane = rng.integers(0, 2, count)
    vertices = np.concatenate([corners, np.zeros((count, 3, 1))], axis=2)
    vertices[plane == 1] = vertices[plane == 1][:, :, [2, 0, 1]]
    faces = np.arange(3 * count).reshape(-1, 3)
    part = (vertices.reshape(-1, 3), np.tile([0.0, 0.0, 1.0], (3 * count, 1)), faces, np.zeros((count, 3, 2)))
    levels = levels_of(part)
    for one in range(count):
        center = corners[one].mean(axis=0)
        for other in range(count):
            if one == other or plane[one] != plane[other] or _area(corners[one]) < 1e-5:
                continue
            parts = [_area(np.stack([center, *np.delete(corners[other], k, axis=0)])) for k in range(3)]
            # Well inside: what lies on a border is left to chance.
            inside = sum(parts) < _area(corners[other]) * 1.0001 and min(parts) > 0.01 * sum(parts)
            if inside and _area(corners[other]) > 1e-5 and levels.max() < 15:
                assert levels[one] != levels[other]


def _area(triangle: np.ndarray) -> float:
    (ax, ay), (bx, by), (cx, cy) = triangle
    return abs((bx - ax) * (cy - ay) - (by - ay) * (cx - ax)) / 2


@pytest.mark.parametrize("twin", [lambda part: part, flipped])
def test_a_doubled_surface_looks_like_one(twin: Callable[[Part], Part]) -> None:
    from helix4d.render.cycles.engine import render_views

    cameras = [orbit_camera(-60.0, 20.0, 48)]
    lights = sample_lights(0, "doubled", cameras)
    options = RenderSettings(image_size=48, samples=32, denoise=False, device="cpu")
    material = Material(base_color=(0.8, 0.5, 0.3))
    seen = []
    for parts in ([sphere()], [sphere(), twin(sphere())]):
        (image,) = render_views(clip(parts, [material] * len(parts)), cameras, lights, options)
        seen.append(image.rgba[image.rgba[..., 3] == 255][:, :3].astype(float))
    assert abs(seen[0].mean() - seen[1].mean()) < 0.5
    assert np.abs(seen[0] - seen[1]).mean() < 1.0


def test_faces_modeled_for_each_side_are_visible_from_their_own_side() -> None:
    from helix4d.render.cycles.engine import render_views

    cameras = [orbit_camera(azimuth, 0.0, 32) for azimuth in (-90.0, 90.0)]
    lights = sample_lights(0, "sides", cameras)
    options = RenderSettings(image_size=32, samples=8, device="cpu")
    sides = clip([quad(), flipped(quad())], [Material(base_color=(1, 0, 0)), Material(base_color=(0, 0, 1))])
    front, back = (image.rgba[16, 16] for image in render_views(sides, cameras, lights, options))
    assert front[0] > 4 * front[2]
    assert back[2] > 4 * back[0]
