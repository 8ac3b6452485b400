"""COLLADA files of others that were once read wrongly: each gives the right answer of their index."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets import Clip, bake, check_clip
from helix4d.assets.clip import AlphaMode
from tests.conftest import CASES, NO_CASES

pytestmark = pytest.mark.skipif(not (CASES / "files").is_dir(), reason=NO_CASES)


def bake_case(name: str, frames: int) -> Clip:
    clip = bake(CASES / "files" / name, frames)
    check_clip(clip)
    return clip


def test_a_channel_of_one_component_moves_its_node() -> None:
    clip = bake_case("dae_location_X_dropped.dae", 3)
    np.testing.assert_allclose(clip.times, [0, 0.5, 1])
    np.testing.assert_allclose([frame.vertices[:, 0].min() for frame in clip.frames], [0, 1, 2], atol=1e-6)


def test_boxes_turn_by_360_degrees() -> None:
    clip = bake_case("dae_rotateZ_ANGLE_no_animation.dae", 9)
    np.testing.assert_allclose([clip.times[0], clip.times[-1]], [0.033333, 11.966666], atol=1e-4)
    assert len(clip.frames[0].faces) == 64 * 12
    diagonal = float(np.linalg.norm(np.ptp(clip.bounds(), axis=0)))
    first = clip.frames[0].vertices.astype(float)
    np.testing.assert_allclose(clip.frames[8].vertices, first, atol=1e-4 * diagonal)
    half = clip.frames[4].vertices
    assert np.linalg.norm(half - first, axis=1).max() > 0.5 * diagonal
    # Nothing moves along the axis of a turn about z.
    np.testing.assert_allclose(half[:, 2], first[:, 2], atol=1e-4 * diagonal)


def test_black_times_one_is_opaque() -> None:
    clip = bake_case("dae_rgbzero_invisible.dae", 2)
    (material,) = clip.materials
    assert (material.alpha, material.alpha_mode) == (1.0, AlphaMode.OPAQUE)
    assert material.base_color == (0.8, 0.1, 0.1)
    assert clip.warnings == ()
