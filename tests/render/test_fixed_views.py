from __future__ import annotations

import numpy as np
import pytest

from helix4d.core import ConfigError
from helix4d.render import project
from helix4d.render.scene.fixed_views import fixed_azimuths, fixed_cameras
from tests.render.test_cameras import sphere_points


def test_names_are_azimuths() -> None:
    assert fixed_azimuths("") == ()
    assert fixed_azimuths("front,right, back,left") == (-90.0, 0.0, 90.0, 180.0)
    assert fixed_azimuths("orbit:4") == (-90.0, 0.0, 90.0, 180.0)
    assert fixed_azimuths("orbit:3") == pytest.approx((-90.0, 30.0, 150.0))
    assert fixed_azimuths("left,orbit:8,front")[:2] == (180.0, -90.0)
    assert len(fixed_azimuths("left,orbit:8,front")) == 8, "a direction counts once"


def test_they_look_from_the_side_with_the_whole_sphere_in_frame() -> None:
    for camera, (x, y) in zip(fixed_cameras("orbit:4", 256), [(0, -1), (1, 0), (0, 1), (-1, 0)], strict=True):
        distance = np.linalg.norm(camera.position)
        np.testing.assert_allclose(camera.position / distance, [x, y, 0.0], atol=1e-12)
        assert camera.fov_deg == pytest.approx(40.0)
        pixels, depth = project(camera, sphere_points(400))
        assert (depth > 0).all()
        assert ((pixels >= 0) & (pixels <= 256)).all()


@pytest.mark.parametrize("names", ["top", "orbit", "orbit:0", "orbit:1000", "front;back", "FRONT"])
def test_other_names_are_refused(names: str) -> None:
    with pytest.raises(ConfigError, match="expected front, right, back, left or orbit:N"):
        fixed_azimuths(names)


def test_there_is_a_limit() -> None:
    with pytest.raises(ConfigError, match="at most 100"):
        fixed_azimuths("orbit:100,orbit:99")
