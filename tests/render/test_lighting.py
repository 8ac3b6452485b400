from __future__ import annotations

import json
from typing import get_args

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.render import Lights, PointLight, sample_cameras, sample_lights, sample_view_lights
from helix4d.render.scene.lighting import DISTANCE_RANGE, TOTAL_IRRADIANCE, LightDistribution
from tests.render.measures import facing_radiance


@given(st.integers(0, 2**31), st.text(max_size=12))
def test_even_lights_give_a_surface_that_faces_the_camera_the_total_and_nothing_clips(seed: int, key: str) -> None:
    cameras = sample_cameras(seed, key, 4, 64)
    for camera, lights in zip(cameras, sample_lights(seed, key, cameras, "even"), strict=True):
        towards = camera.position / np.linalg.norm(camera.position)
        received = lights.environment
        for light in lights.points:
            distance = np.linalg.norm(light.position)
            assert DISTANCE_RANGE[0] <= distance <= DISTANCE_RANGE[1] + 1e-9
            received += light.irradiance * max(0.0, float(np.dot(light.position, towards) / distance))
        assert 1 <= len(lights.points) <= 3
        assert lights.environment >= 0.0
        assert received == pytest.approx(TOTAL_IRRADIANCE)
        assert lights.environment + sum(light.irradiance for light in lights.points) <= 2.0 * TOTAL_IRRADIANCE < np.pi


@given(st.integers(0, 2**31), st.text(max_size=12))
def test_trellis2_lights_spend_its_budget(seed: int, key: str) -> None:
    """In its own units: a lamp of P watts at distance d takes P / (31.4 d²), and the environment gets what remains."""
    cameras = sample_cameras(seed, key, 4, 64)
    for camera, lights in zip(cameras, sample_lights(seed, key, cameras), strict=True):
        towards = camera.position / np.linalg.norm(camera.position)
        budget = 1.5
        assert 1 <= len(lights.points) <= 3
        for light in lights.points:
            distance = float(np.linalg.norm(light.position))
            cosine = float(np.dot(light.position, towards)) / distance
            share = light.watts / (31.4 * distance**2)
            assert 10.0 - 1e-9 <= distance <= 100.0 + 1e-9
            assert 0.1 <= light.radius <= 0.1 * distance
            assert 0.1 - 1e-9 <= share / (budget / (0.45 * cosine + 0.55)) <= 1.0 + 1e-9
            budget -= max(0.5 * cosine + 0.5, 0.0) * share
        assert lights.environment_radiance == pytest.approx(budget, abs=1e-9)


def test_the_exposure_of_trellis2_lights_varies_by_a_factor_of_nine() -> None:
    """Radiance of a white plane that faces the camera, in 10,000 evenly spread views."""
    radiances = []
    for asset in range(625):
        cameras = sample_cameras(0, f"{asset}", 16, 64, "even")
        for camera, lights in zip(cameras, sample_lights(0, f"{asset}", cameras), strict=True):
            radiances.append(facing_radiance(camera, lights))
    assert np.mean(radiances) == pytest.approx(0.69, abs=0.01)
    assert np.quantile(radiances, [0.05, 0.95]) == pytest.approx([0.14, 1.26], abs=0.02)


@pytest.mark.parametrize("distribution", ["trellis2", "even"])
def test_lamps_stand_above_more_often_than_below(distribution: LightDistribution) -> None:
    cameras = sample_cameras(0, "asset", 200, 64)
    lamps = [lamp.position for lights in sample_lights(0, "asset", cameras, distribution) for lamp in lights.points]
    heights = [position[2] / np.linalg.norm(position) for position in lamps]
    assert 0.2 < np.mean(heights) < 0.6
    assert min(heights) < 0.0


def test_one_view_alone_has_the_lights_of_the_set_and_views_differ() -> None:
    cameras = sample_cameras(1, "asset", 8, 64)
    together = sample_lights(1, "asset", cameras)
    assert together == [sample_view_lights(1, "asset", view, camera) for view, camera in enumerate(cameras)]
    assert len({lights.points for lights in together}) == 8


def test_lights_survive_json_exactly() -> None:
    for distribution in get_args(LightDistribution):
        lights = sample_lights(0, "asset", sample_cameras(0, "asset", 1, 64), distribution)[0]
        stored = json.loads(json.dumps(lights.to_json()))
        assert Lights.from_json(stored) == lights
        assert all(("radius" in lamp) == (distribution == "trellis2") for lamp in stored["points"])


def test_invalid_strengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="not negative"):
        Lights((PointLight((0.0, 0.0, 10.0), -1.0),), 1.0)
    with pytest.raises(ConfigError, match="finite"):
        Lights((), float("nan"))
    for radius in (-0.1, 10.0, float("nan")):
        with pytest.raises(ConfigError, match="radius"):
            PointLight((0.0, 0.0, 10.0), 1.0, radius=radius)
    with pytest.raises(ConfigError, match="expected one of trellis2, even"):
        sample_view_lights(0, "asset", 0, sample_cameras(0, "asset", 1, 64)[0], "odd")  # type: ignore[arg-type]
