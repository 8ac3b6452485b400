"""Each sphere of the chart differs from its neighbor as its material requires."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest

from tests.render.chart import chart, patches, render_patch

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def pictures() -> dict[str, np.ndarray]:
    return {name: render_patch(patch) for name, patch in patches().items()}


def colors(picture: np.ndarray) -> np.ndarray:
    """(N, 3) float of the pixels that are at least half covered."""
    return picture[picture[..., 3] >= 128][:, :3].astype(float)


def brightness(picture: np.ndarray) -> np.ndarray:
    return colors(picture).mean(axis=1)


def test_every_patch_differs_from_its_neighbor(pictures: dict[str, np.ndarray]) -> None:
    names = list(pictures)
    for a, b in pairwise(names):
        difference = np.abs(pictures[a].astype(int) - pictures[b].astype(int)).max(axis=2)
        assert (difference > 12).sum() > 20, (a, b)
    assert chart(pictures).size[0] > 0


def test_factors_do_what_they_say(pictures: dict[str, np.ndarray]) -> None:
    red, green, blue = colors(pictures["base color"]).mean(axis=0)
    assert red > 2 * max(green, blue)
    # A metal has no diffuse light of its own: darker away from its highlight, which is brighter.
    gray, metal = brightness(pictures["gray"]), brightness(pictures["metallic"])
    assert np.median(metal) < 0.85 * np.median(gray)
    assert metal.max() > gray.max() + 40
    smooth, rough = brightness(pictures["smooth"]), brightness(pictures["rough"])
    assert smooth.max() > 230
    assert rough.max() < gray.max()
    assert (smooth > smooth.max() - 60).sum() < (gray > gray.max() - 20).sum(), "a smaller highlight"
    golden = colors(pictures["specular-glossiness"]).mean(axis=0)
    assert golden[0] > golden[1] > golden[2]


def test_normal_maps_ripple(pictures: dict[str, np.ndarray]) -> None:
    def roughness(picture: np.ndarray) -> float:
        middle = picture[60:100, 60:100, :3].astype(float).mean(axis=2)
        return float(np.abs(np.diff(middle, axis=0)).mean())

    assert roughness(pictures["normal map"]) > 3 * roughness(pictures["gray"])


def test_emission_shines_in_the_dark(pictures: dict[str, np.ndarray]) -> None:
    assert brightness(pictures["gray, dark"]).max() < 30
    red, green, blue = colors(pictures["emissive, dark"]).mean(axis=0)
    assert blue > green > red > 60


def test_textures_are_mapped_and_transformed(pictures: dict[str, np.ndarray]) -> None:
    def changes(picture: np.ndarray) -> int:
        row = picture[80, 20:140, :3].astype(int)
        blue = row[:, 2] - row[:, 0] > 40
        return int((blue[1:] != blue[:-1]).sum())

    assert 2 <= changes(pictures["texture"]) <= 5
    assert changes(pictures["transformed"]) == pytest.approx(3 * changes(pictures["texture"]), abs=4)


def test_alpha_modes_cover_what_they_should(pictures: dict[str, np.ndarray]) -> None:
    whole = pictures["gray"][..., 3] == 255
    masked = pictures["mask"][..., 3][whole]
    # A checkerboard in front of another, both half open; a third of it may show the far side through the near one.
    assert 0.5 < (masked > 127).mean() < 0.95
    assert ((masked > 5) & (masked < 250)).mean() < 0.2, "cut, not blended"
    # Two layers of one half each: three quarters.
    assert np.median(pictures["blend"][..., 3][whole]) == pytest.approx(0.75 * 255, abs=1.5)


def test_glass_shows_what_is_behind_it(pictures: dict[str, np.ndarray]) -> None:
    middle = (slice(60, 100), slice(50, 110))

    def contrast(name: str) -> float:
        return float(np.ptp(pictures[name][middle][..., :3].astype(float).mean(axis=2)))

    assert contrast("stripes, gray") < 60
    assert contrast("transmission") > 150
    green = pictures["volume"][middle][..., :3].astype(float)
    lit = green.mean(axis=2) > 60
    assert (green[lit][:, 1] > 1.5 * green[lit][:, 0]).mean() > 0.9, "attenuated to green"


def test_colors_without_light(pictures: dict[str, np.ndarray]) -> None:
    flat = colors(pictures["unlit"][50:110, 50:110])
    assert np.ptp(flat, axis=0).max() <= 2
    assert np.median(flat) == pytest.approx(188, abs=1), "linear 0.5"
    ramp = pictures["vertex color"].astype(int)
    assert ramp[80, 130, 0] > ramp[80, 30, 0] + 40
    assert ramp[80, 30, 2] > ramp[80, 130, 2] + 40


def test_culled_backs_let_the_camera_in(pictures: dict[str, np.ndarray]) -> None:
    turned = np.abs(pictures["inside, double-sided"].astype(int) - pictures["gray"].astype(int))
    assert turned.max() <= 8, "from outside a double-sided surface looks like any other"
    # Through the culled near side the far side's front is seen, in a room that no light enters.
    assert np.median(brightness(pictures["inside, single-sided"])) < 10
