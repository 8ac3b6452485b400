"""Light that the rasterizer gathers at points: open share of the sky, one bounce, lamps, and what blocks light."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import Clip, Material
from helix4d.render import Lights, PointLight
from helix4d.render.raster.gathering import Gathering
from helix4d.render.raster.lattices import cut_triangles
from helix4d.render.raster.lobes import SIDE, albedo_table
from tests.render.clips import Part, box, clip

GRAY = Material(base_color=(0.5, 0.5, 0.5), metallic=0.0, roughness=1.0, ior=1.0)
SKY = Lights((), np.pi)
"""An environment of radiance 1."""


def _square(corner: list[float], along: list[float], across: list[float]) -> Part:
    """A square whose normal is `along` × `across`."""
    a, u, v = np.array(corner), np.array(along), np.array(across)
    normal = np.cross(u, v) / np.linalg.norm(np.cross(u, v))
    faces = np.array([[0, 1, 2], [0, 2, 3]])
    uvs = np.array([[0, 0], [1, 0], [1, 1], [0, 1]])[faces]
    return np.array([a, a + u, a + u + v, a + v]), np.tile(normal, (4, 1)), faces, uvs


FLOOR = _square([-0.5, -0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
WALL = _square([-0.5, 0.5, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0])  # its front faces -Y, to the floor


def _gather(shown: Clip, lights: Lights = SKY) -> tuple[np.ndarray, np.ndarray]:
    """(K, 3) points and (K, 2, 4) light."""
    frame = shown.frames[0]
    lattices, gathering = cut_triangles([frame]), Gathering(shown, {})
    gathering.set_frame(frame, lattices)
    return lattices.at_points(frame.vertices), gathering.light(lights)


def test_lattices_keep_the_triangles() -> None:
    frame = clip([box()], [GRAY]).frames[0]
    lattices = cut_triangles([frame])
    corners = lattices.at_corners(frame.vertices[frame.faces])
    np.testing.assert_allclose(lattices.at_points(frame.vertices)[lattices.faces], corners, atol=1e-6)
    np.testing.assert_array_equal(
        lattices.at_points(frame.vertices)[lattices.whole(lattices.faces)], frame.vertices[frame.faces]
    )
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    assert areas.sum() == pytest.approx(6.0, rel=1e-5)
    assert (np.bincount(lattices.parents) == lattices.cuts**2).all()
    n = int(lattices.cuts[0])
    assert len(lattices.weights) == 6 * (n + 1) ** 2, "points on diagonals are shared, those on edges are not"


def test_triangles_that_bend_a_little_share_points() -> None:
    bent = FLOOR[0].copy()
    bent[2, 2] += 0.1
    lattices = cut_triangles([clip([(bent, *FLOOR[1:])], [GRAY]).frames[0]])
    assert len(lattices.weights) == (int(lattices.cuts[0]) + 1) ** 2


def test_a_lone_square_sees_all_of_the_sky() -> None:
    _, light = _gather(clip([FLOOR], [GRAY]))
    np.testing.assert_allclose(light, 1.0, atol=1e-5)


def test_a_wall_hides_its_share_and_reflects_the_sky_once() -> None:
    points, light = _gather(clip([FLOOR, WALL], [GRAY, GRAY]))
    draw = np.random.default_rng(0)
    for distance in (0.1, 0.3):
        place = np.array([0.0, 0.5 - distance, 0.0])
        nearest = np.argmin(np.linalg.norm(points - place, axis=1))
        place = points[nearest].astype(float)
        # Directions with the density of the cosine.
        radius, turn = np.sqrt(draw.random(200_000)), 2 * np.pi * draw.random(200_000)
        rays = np.stack([radius * np.cos(turn), radius * np.sin(turn), np.sqrt(1 - radius**2)], axis=1)
        reach = (0.5 - place[1]) / np.where(rays[:, 1] > 0, rays[:, 1], np.inf)
        ends = place + reach[:, None] * rays
        hits = (rays[:, 1] > 0) & (np.abs(ends[:, 0]) < 0.5) & (ends[:, 2] < 1.0)
        assert light[nearest, 0, 3] == pytest.approx(1.0 - hits.mean(), abs=0.03)
        wall = np.flatnonzero(points[:, 1] > 0.4999)
        sample = ends[hits][:500]
        of_wall = light[wall[np.argmin(np.linalg.norm(sample[:, None] - points[wall], axis=2), axis=1)], 0, 3].mean()
        expected = 1.0 - hits.mean() + 0.5 * of_wall * hits.mean()
        np.testing.assert_allclose(light[nearest, 0, :3], expected, atol=0.03)
        np.testing.assert_allclose(light[nearest, 1], 1.0, atol=1e-5)  # from below there is nothing


def test_a_lamp_that_lights_the_floor_lights_the_wall() -> None:
    lamp = PointLight((0.0, -1e-3, 50.0), np.pi)  # radiance 1 on a white floor, and nothing on the wall
    points, light = _gather(
        clip([FLOOR, WALL], [replace(GRAY, base_color=(0.5, 0.25, 0.0)), GRAY]), Lights((lamp,), 0.0)
    )
    low = np.argmin(np.linalg.norm(points - [0.0, 0.5, 0.02], axis=1) + 10 * (points[:, 2] == 0))
    red, green, blue, _ = light[low, 0]
    assert 0.15 < red < 0.25, "half of its hemisphere is the floor, up to its borders"
    assert (green, blue) == (pytest.approx(0.5 * red, rel=1e-3), 0.0)
    shaded = _square([-0.5, -0.5, 0.9], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    _, dark = _gather(clip([FLOOR, WALL, shaded], [GRAY, GRAY, GRAY]), Lights((lamp,), 0.0))
    assert dark[low, 0, :3].max() < 0.3 * red


@pytest.mark.parametrize(
    ("lid", "least", "most"),
    [
        (GRAY, 0.0, 0.2),
        (replace(GRAY, outline=True), 1.0, 1.0),
        (replace(GRAY, transmission=1.0), 1.0, 1.0),
    ],
)
def test_what_blocks_the_sky(lid: Material, least: float, most: float) -> None:
    above = _square([-0.5, -0.5, 0.2], [1.0, 0.0, 0.0], [0.0, 1.0, 0.0])
    points, light = _gather(clip([FLOOR, above], [GRAY, lid]))
    middle = np.argmin(np.linalg.norm(points, axis=1))
    assert least - 1e-5 <= light[middle, 0, 3] <= most + 1e-5


def test_the_same_frame_gives_the_same_light() -> None:
    shown = clip([FLOOR, WALL], [GRAY, GRAY])
    np.testing.assert_array_equal(_gather(shown)[1], _gather(shown)[1])


def test_albedo_of_lobes() -> None:
    table = albedo_table()
    assert table.shape == (SIDE, SIDE, 3)
    np.testing.assert_allclose(
        table[-1, -1, :2].sum(), 1.0 - np.log(2.0), atol=2e-3
    )  # by hand for roughness 1, head-on
    np.testing.assert_allclose(table[0, 1:, :2].sum(axis=1), 1.0, atol=0.01)  # a mirror loses nothing
