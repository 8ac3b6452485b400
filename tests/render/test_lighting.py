from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.core import ConfigError
from helix4d.render import Lights, PointLight, sample_cameras, sample_lights, sample_view_lights
from helix4d.render.scene.lighting import DISTANCE_RANGE, TOTAL_IRRADIANCE


@given(st.integers(0, 2**31), st.text(max_size=12))
def test_a_surface_that_faces_the_camera_receives_the_total_and_nothing_clips(seed: int, key: str) -> None:
    for camera, lights in zip(
        sample_cameras(seed, key, 4, 64), sample_lights(seed, key, sample_cameras(seed, key, 4, 64)), strict=True
    ):
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


def test_lamps_stand_above_more_often_than_below() -> None:
    cameras = sample_cameras(0, "asset", 200, 64)
    heights = [
        p.position[2] / np.linalg.norm(p.position) for li in sample_lights(0, "asset", cameras) for p in li.points
    ]
    assert 0.3 < np.mean(heights) < 0.6
    assert min(heights) < 0.0


def test_one_view_alone_has_the_lights_of_the_set_and_views_differ() -> None:
    cameras = sample_cameras(1, "asset", 8, 64)
    together = sample_lights(1, "asset", cameras)
    assert together == [sample_view_lights(1, "asset", view, camera) for view, camera in enumerate(cameras)]
    assert len({lights.points for lights in together}) == 8


def test_lights_survive_json_exactly() -> None:
    lights = sample_lights(0, "asset", sample_cameras(0, "asset", 1, 64))[0]
    assert Lights.from_json(json.loads(json.dumps(lights.to_json()))) == lights


def test_invalid_strengths_are_refused() -> None:
    with pytest.raises(ConfigError, match="not negative"):
        Lights((PointLight((0.0, 0.0, 10.0), -1.0),), 1.0)
    with pytest.raises(ConfigError, match="finite"):
        Lights((), float("nan"))
