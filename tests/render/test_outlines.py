"""Inverted hulls that draw outlines: a rim around the picture of an object that is lit as if they were not there."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import Clip
from helix4d.assets.outline import mark_outlines
from helix4d.render import load_engine
from helix4d.render.engines import EngineName
from tests.render.clips import clip, sphere
from tests.render.egl import needs_egl
from tests.render.test_blender import FRONT, LAMP, MATTE, QUICK


def ball(rim: float) -> Clip:
    """An orange ball of a quarter unit in a black hull that is thicker by `rim`, or without one if that is 0."""
    body = sphere(0.25)
    orange = replace(MATTE, name="body", base_color=(0.9, 0.5, 0.1))
    if not rim:
        return clip([body], [orange])
    vertices, normals, faces, uvs = sphere(0.25 + rim)
    hull = vertices, -normals, faces[:, ::-1], uvs[:, ::-1]
    black = replace(MATTE, name="rim", base_color=(0.0, 0.0, 0.0))
    return mark_outlines(clip([body, hull], [orange, black]))


@pytest.mark.parametrize("engine", ["cycles", pytest.param("raster", marks=needs_egl)])
def test_a_hull_is_a_rim_and_casts_no_shadow(engine: EngineName) -> None:
    def picture(shown: Clip) -> np.ndarray:
        (image,) = load_engine(engine)(shown, [FRONT], [LAMP], replace(QUICK, samples=64))
        return image.rgba.astype(int)

    alone, outlined = picture(ball(0.0)), picture(ball(0.03))
    inside = np.zeros(alone.shape[:2], bool)
    inside[1:-1, 1:-1] = np.lib.stride_tricks.sliding_window_view(alone[..., 3] == 255, (3, 3)).all(axis=(2, 3))
    assert inside.sum() > 200
    assert alone[inside][:, 0].min() > 50
    np.testing.assert_allclose(outlined[inside], alone[inside], atol=8)
    rim = (outlined[..., 3] == 255) & (alone[..., 3] == 0)
    assert rim.sum() > 20
    assert outlined[rim][:, :3].max() < 60  # it reflects the ball
