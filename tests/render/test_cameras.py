from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.render import Camera, camera_to_world, orbit_camera, project, sample_camera, sample_cameras
from helix4d.render.scene.cameras import BOUNDING_RADIUS, FOV_RANGE_DEG, RADIUS_JITTER, fitting_radius

SEEDS = st.integers(0, 2**31)
KEYS = st.text(max_size=12)


def sphere_points(count: int) -> np.ndarray:
    normal = np.random.default_rng(0).normal(size=(count, 3))
    return BOUNDING_RADIUS * normal / np.linalg.norm(normal, axis=1, keepdims=True)


def silhouette(camera: Camera) -> np.ndarray:
    """Pixels of the bounding sphere's outline: the circle where the lines of sight touch it."""
    away = camera.position / np.linalg.norm(camera.position)
    right, down = camera.extrinsics[0, :3], camera.extrinsics[1, :3]
    distance = np.linalg.norm(camera.position)
    turn = np.linspace(0.0, 2.0 * np.pi, 360)[:, None]
    circle = np.sqrt(1.0 - (BOUNDING_RADIUS / distance) ** 2) * (np.cos(turn) * right + np.sin(turn) * down)
    return project(camera, BOUNDING_RADIUS * (circle + away * BOUNDING_RADIUS / distance))[0]


@given(SEEDS, KEYS, st.integers(1, 64), st.sampled_from([1, 64, 512, 1024]))
def test_every_view_keeps_the_bounding_sphere_in_frame_and_looks_at_the_origin(
    seed: int, key: str, views: int, image_size: int
) -> None:
    camera = sample_camera(seed, key, views // 2, views, image_size)
    for pixels in (silhouette(camera), project(camera, sphere_points(200))[0]):
        assert pixels.min() >= 0.0
        assert pixels.max() <= image_size
    center, depth = project(camera, np.zeros(3))
    np.testing.assert_allclose(center, image_size / 2.0, atol=1e-9 * image_size)
    near, far = (fitting_radius(fov) for fov in reversed(FOV_RANGE_DEG))
    assert near <= depth <= far * RADIUS_JITTER
    assert depth == pytest.approx(np.linalg.norm(camera.position))
    assert FOV_RANGE_DEG[0] / RADIUS_JITTER - 0.1 <= camera.fov_deg <= FOV_RANGE_DEG[1] + 1e-6


@given(SEEDS, KEYS, st.integers(1, 20))
def test_z_is_up_in_every_image(seed: int, key: str, views: int) -> None:
    for camera in sample_cameras(seed, key, views, 64):
        right, down, forward = camera.extrinsics[:3, :3]
        assert right[2] == 0.0
        assert down[2] <= 0.0
        np.testing.assert_allclose(np.cross(right, down), forward, atol=1e-12)


def test_one_view_alone_is_that_view_of_the_set() -> None:
    for view, camera in enumerate(sample_cameras(3, "asset", 16, 512)):
        assert camera.to_json() == sample_camera(3, "asset", view, 16, 512).to_json()


def test_a_camera_survives_json_exactly() -> None:
    camera = sample_camera(0, "asset", 1, 4, 512)
    again = Camera.from_json(json.loads(json.dumps(camera.to_json())))
    np.testing.assert_array_equal(again.intrinsics, camera.intrinsics)
    np.testing.assert_array_equal(again.extrinsics, camera.extrinsics)
    assert again.image_size == 512


def test_directions_cover_the_sphere_and_assets_differ() -> None:
    cameras = sample_cameras(0, "asset", 256, 512, "even")
    directions = np.array([c.position / np.linalg.norm(c.position) for c in cameras])
    assert np.linalg.norm(directions.mean(axis=0)) < 0.02
    # Hammersley points leave no hole: every direction has a view within 15 degrees of it.
    assert (sphere_points(500) / BOUNDING_RADIUS @ directions.T).max(axis=1).min() > np.cos(np.radians(15.0))
    other = sample_cameras(0, "another", 256, 512, "even")[0].position
    assert not np.allclose(cameras[0].position, other)


def test_elevations_follow_the_bent_sequence_of_trellis2() -> None:
    """Quantiles of 10,000 views against the inverse of its formula: elevation = arccos(1 - 2u) - 90°, with u bent."""
    positions = [camera.position for asset in range(625) for camera in sample_cameras(0, f"{asset}", 16, 64)]
    heights = np.array([position[2] / np.linalg.norm(position) for position in positions])
    shares = np.linspace(0.01, 0.99, 99)
    bent = np.where(shares < 0.25, 2.0 * shares, 2.0 * shares / 3.0 + 1.0 / 3.0)
    expected = np.degrees(np.arccos(1.0 - 2.0 * bent)) - 90.0
    np.testing.assert_allclose(np.degrees(np.arcsin(np.quantile(heights, shares))), expected, atol=0.5)
    assert np.mean(heights < 0.0) == pytest.approx(0.25, abs=1e-9)  # a quarter of every asset's 16 views
    assert np.degrees(np.arcsin(np.median(heights))) == pytest.approx(19.47, abs=0.3)
    turns = np.arctan2([p[1] for p in positions], [p[0] for p in positions]) / (2.0 * np.pi) % 1.0
    np.testing.assert_allclose(np.quantile(turns, shares), shares, atol=0.01)


def test_radii_are_uniform_in_their_inverse_square() -> None:
    near, far = (fitting_radius(fov) for fov in reversed(FOV_RANGE_DEG))
    radii = np.array([np.linalg.norm(sample_camera(0, f"{n}", 0, 1, 64).position) for n in range(2000)])
    # E[1/r²] before the step back, times E[1/u²] = 1/1.15 of the step.
    expected = 0.5 * (near**-2 + far**-2) / RADIUS_JITTER
    assert np.mean(radii**-2.0) == pytest.approx(expected, rel=0.05)


def test_project_agrees_with_the_pinhole_equation() -> None:
    camera = orbit_camera(0.0, 0.0, 200, fov_deg=90.0, radius=2.0)  # on +X, looking along -X; +Y is to the right
    pixels, depth = project(camera, np.array([[1.0, 0.5, 0.0], [0.0, 0.0, 1.0]]))
    np.testing.assert_allclose(depth, [1.0, 2.0])
    np.testing.assert_allclose(pixels, [[150.0, 100.0], [100.0, 50.0]], atol=1e-6)


@pytest.mark.parametrize("elevation", [90.0, -90.0])
def test_the_poles_are_ordinary(elevation: float) -> None:
    camera = orbit_camera(30.0, elevation, 64)
    np.testing.assert_allclose(camera.position, [0.0, 0.0, np.sign(elevation) * fitting_radius(40.0)], atol=1e-12)
    np.testing.assert_allclose(camera.extrinsics[0, :3], orbit_camera(30.0, 0.0, 64).extrinsics[0, :3], atol=1e-12)


def test_invalid_cameras_are_refused() -> None:
    camera = sample_camera(0, "asset", 0, 1, 64)
    with pytest.raises(ConfigError, match="square pixels"):
        Camera(np.diag([1.0, 2.0, 1.0]), camera.extrinsics, 64)
    with pytest.raises(ConfigError, match="rotation"):
        Camera(camera.intrinsics, 2.0 * np.eye(4), 64)
    with pytest.raises(ConfigError, match="view 4 of 4"):
        sample_camera(0, "asset", 4, 4, 64)
    with pytest.raises(ConfigError, match="expected one of trellis2, even"):
        sample_camera(0, "asset", 0, 4, 64, "odd")  # type: ignore[arg-type]


def test_pose_in_opengl_axes() -> None:
    """From the front the camera stands at -Y: right is +X, up is +Z, and it looks along its own -z."""
    camera = orbit_camera(-90, 0, 64, radius=3.0)
    right, up, back, position = camera_to_world(camera)[:3].T
    np.testing.assert_allclose(np.stack([right, up, back]), [[1, 0, 0], [0, 0, 1], [0, -1, 0]], atol=1e-12)
    np.testing.assert_allclose(position, camera.position, atol=1e-12)
