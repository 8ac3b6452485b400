"""Textures without interpolation: images of both engines, alpha and point clouds show sharp texels."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture, Wrap
from helix4d.evaluation.learned.points import base_colors
from helix4d.render.alpha.coverage import Coverage
from tests.render.clips import clip, quad
from tests.render.test_blender import QUICK, WIDE
from tests.render.test_blender import picture as traced
from tests.render.test_raster import picture as rasterized

SIZE = 120


def _shown(
    width: int, height: int, mode: AlphaMode = AlphaMode.OPAQUE, repeats: float = 1.0
) -> tuple[Clip, np.ndarray]:
    """A square that fills the picture of WIDE, and the texel that each of its pixels shows."""
    texels = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    if mode is AlphaMode.OPAQUE:
        texels[..., 3] = 255
    texture = Texture(0, 0, Wrap.REPEAT, Wrap.MIRROR, scale=(repeats, repeats), nearest=True)
    material = Material(unlit=True, base_color_texture=texture, alpha_mode=mode)
    place = (np.arange(SIZE) + 0.5) / SIZE * repeats
    column, row = (np.floor(place * count).astype(int) for count in (width, height))
    row = np.minimum(row % (2 * height), 2 * height - 1 - row % (2 * height))
    return clip([quad()], [material], [texels]), texels[row][:, column % width]


def _away_from_borders(width: int, height: int, repeats: float = 1.0) -> np.ndarray:
    """(SIZE, SIZE) bool: pixels more than a pixel from the border of a texel."""
    pixels = np.arange(SIZE) + 0.5
    column, row = (pixels % (SIZE / repeats / count) for count in (width, height))
    near_x, near_y = (
        np.minimum(part, SIZE / repeats / count - part) < 1.5 for part, count in ((column, width), (row, height))
    )
    return np.asarray(~near_y[:, None] & ~near_x[None])


@pytest.mark.parametrize("render", [traced, rasterized], ids=["cycles", "raster"])
@pytest.mark.parametrize(("width", "height", "repeats"), [(8, 8, 1.0), (3, 5, 1.0), (4, 2, 2.0)])
def test_images_show_sharp_texels(render: Callable[..., np.ndarray], width: int, height: int, repeats: float) -> None:
    shown, expected = _shown(width, height, repeats=repeats)
    settings = {"settings": replace(QUICK, image_size=SIZE, samples=8)} if render is traced else {}
    camera = replace(
        WIDE, image_size=SIZE, intrinsics=WIDE.intrinsics * [[SIZE / WIDE.image_size], [SIZE / WIDE.image_size], [1]]
    )
    found = render(shown, camera, **settings)
    inside = _away_from_borders(width, height, repeats)
    assert inside.mean() > 0.5
    assert np.abs(found[inside][:, :3].astype(int) - expected[inside][:, :3]).max() <= 1


@pytest.mark.parametrize("mode", [AlphaMode.BLEND, AlphaMode.MASK])
def test_alpha_is_that_of_the_nearest_texel(mode: AlphaMode) -> None:
    shown, expected = _shown(6, 4, mode)
    camera = replace(
        WIDE, image_size=SIZE, intrinsics=WIDE.intrinsics * [[SIZE / WIDE.image_size], [SIZE / WIDE.image_size], [1]]
    )
    alpha = Coverage(shown).alpha(0, camera)
    assert alpha is not None
    inside = _away_from_borders(6, 4)
    texels = expected[..., 3] / 255
    wanted = texels if mode is AlphaMode.BLEND else (texels >= 0.5).astype(float)
    np.testing.assert_allclose(alpha[inside], wanted[inside], atol=1e-5)


def test_colors_of_points_are_those_of_the_nearest_texel() -> None:
    shown, _ = _shown(4, 4)
    weights = np.random.default_rng(1).dirichlet([1.0, 1.0, 1.0], 200)
    frame, texels = shown.frames[0], shown.images[0]
    places = (weights @ frame.topology.uvs[0, 0] * 4).astype(int)
    found = base_colors(shown, frame, np.zeros(200, np.int64), weights)
    np.testing.assert_allclose(found * 255, texels[places[:, 1], places[:, 0], :3], atol=1e-4)
