from __future__ import annotations

import numpy as np
import pytest
import torch

from helix4d.assets import Clip, Frame, Material, Texture, Topology, Wrap
from helix4d.core import AssetError, ConfigError
from helix4d.evaluation.learned.points import COLORLESS, base_colors, colored_cloud, farthest_points, group, unit_ball

RANDOM = np.random.default_rng(0)


def brute_force(points: np.ndarray, count: int, blind: float) -> list[int]:
    """As defined: every distance to every chosen point, again for each step."""
    allowed = (points.astype(np.float64) ** 2).sum(axis=1) > blind
    chosen = [0]
    while len(chosen) < count:
        distances = np.linalg.norm(points[:, None].astype(np.float64) - points[chosen].astype(np.float64), axis=2)
        chosen.append(int(np.where(allowed, distances.min(axis=1), -1).argmax()))
    return chosen


@pytest.mark.parametrize("blind", [-1.0, 0.3])
def test_farthest_points_are_those_of_brute_force(blind: float) -> None:
    points = RANDOM.standard_normal((300, 3)).astype(np.float32)
    assert farthest_points(points, 60, blind).tolist() == brute_force(points, 60, blind)


def test_at_most_all_points_can_be_chosen() -> None:
    points = RANDOM.standard_normal((20, 3)).astype(np.float32)
    assert sorted(farthest_points(points, 20)) == list(range(20))
    with pytest.raises(ConfigError, match="cannot choose 21 of 20 points"):
        farthest_points(points, 21)


def test_clouds_are_normalized_to_the_unit_ball() -> None:
    points = (RANDOM.standard_normal((50, 3)) * 3 + 100).astype(np.float32)
    ball = unit_ball(points)
    assert np.allclose(ball.mean(axis=0), 0, atol=1e-6)
    assert np.isclose(np.linalg.norm(ball, axis=1).max(), 1)
    assert np.allclose(unit_ball(points * 7 - 3), ball, atol=1e-4)
    assert (unit_ball(np.ones((4, 3), np.float32)) == 0).all()


def test_groups_hold_the_nearest_points_around_spread_centers() -> None:
    cloud = torch.from_numpy(RANDOM.random((1, 200, 6)).astype(np.float32))
    members, centers = group(cloud, groups=10, size=8)
    assert members.shape == (1, 10, 8, 6)
    xyz = cloud[0, :, :3].numpy()
    assert np.array_equal(centers[0].numpy(), xyz[brute_force(xyz, 10, 1e-3)])
    for member, center in zip(members[0].numpy(), centers[0].numpy(), strict=True):
        nearest = np.linalg.norm(xyz - center, axis=1).argsort()[:8]
        order = np.linalg.norm(member[:, :3], axis=1).argsort()
        assert np.allclose(member[order, :3], xyz[nearest] - center)
        assert np.array_equal(member[order, 3:], cloud[0, nearest, 3:].numpy())


def test_groups_do_not_depend_on_the_order_of_points_after_the_first() -> None:
    cloud = torch.from_numpy(RANDOM.random((1, 100, 6)).astype(np.float32))
    shuffled = cloud[:, torch.cat([torch.zeros(1, dtype=torch.long), 1 + torch.randperm(99)])]
    (a, a_centers), (b, b_centers) = group(cloud, 8, 5), group(shuffled, 8, 5)
    assert torch.equal(a_centers, b_centers)
    assert torch.equal(a.sort(dim=2).values, b.sort(dim=2).values)


def test_clouds_of_another_shape_are_refused() -> None:
    with pytest.raises(ConfigError, match="expected"):
        group(torch.zeros(1, 10, 3), 2, 2)
    with pytest.raises(ConfigError, match="N at least"):
        group(torch.zeros(1, 10, 6), 2, 11)


def square_clip(material: Material, image: np.ndarray, colors: np.ndarray | None = None) -> Clip:
    """A unit square in the plane z = 0, its UVs (x, 1 - y)."""
    vertices = np.array([(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)], np.float32)
    faces = np.array([(0, 1, 2), (0, 2, 3)], np.int32)
    uvs = np.stack([vertices[..., 0], 1 - vertices[..., 1]], axis=-1)[faces][None].astype(np.float32)
    topology = Topology(faces, uvs, np.zeros(2, np.int32), colors)
    frame = Frame(vertices, np.broadcast_to(np.float32([0, 0, 1]), (4, 3)).copy(), topology)
    return Clip("", 0, np.zeros(1), (frame,), (material,), (image,))


def halves() -> np.ndarray:
    """The left half red, the right half blue."""
    image = np.zeros((4, 8, 4), np.uint8)
    image[:, :4], image[:, 4:] = (255, 0, 0, 255), (0, 0, 255, 255)
    return image


def test_a_cloud_takes_its_colors_from_the_texture() -> None:
    clip = square_clip(Material(base_color_texture=Texture(0, wrap_u=Wrap.CLAMP)), halves())
    cloud = colored_cloud(clip, clip.frames[0], seed=3, count=400)
    assert cloud.shape == (400, 6)
    assert cloud.dtype == np.float32
    x = cloud[:, 0]  # centered: 0 is the middle of the square, which is 1 wide and has a half diagonal of 1
    left, right = x < -0.1, x > 0.1
    assert left.sum() > 100
    assert np.allclose(cloud[left, 3:], (1, 0, 0), atol=1e-6)
    assert np.allclose(cloud[right, 3:], (0, 0, 1), atol=1e-6)
    assert np.array_equal(cloud, colored_cloud(clip, clip.frames[0], seed=3, count=400))
    gray = colored_cloud(clip, clip.frames[0], seed=3, textured=False, count=400)
    assert np.array_equal(gray[:, :3], cloud[:, :3])
    assert np.allclose(gray[:, 3:], COLORLESS)


def test_points_of_a_cloud_are_spread_evenly() -> None:
    clip = square_clip(Material(), halves())
    cloud = colored_cloud(clip, clip.frames[0], seed=0, count=400)
    distances = np.linalg.norm(cloud[:, None, :3] - cloud[None, :, :3], axis=2) + 9 * np.eye(400)
    # Of 400 uniform points the closest two would be about a hundredth of that apart.
    assert distances.min() > 0.5 * 2**0.5 / 20


def test_factors_vertex_colors_and_transforms_multiply_in_linear_light() -> None:
    image = np.full((2, 2, 4), 128, np.uint8)
    colors = np.full((2, 3, 4), 0.5, np.float32)
    clip = square_clip(Material(base_color=(1.0, 0.5, 0.0), base_color_texture=Texture(0)), image, colors)
    found = base_colors(clip, clip.frames[0], np.array([0]), np.array([[0.2, 0.3, 0.5]]))
    linear = ((128 / 255 + 0.055) / 1.055) ** 2.4 * 0.5 * np.array([1, 0.5, 0])
    expected = np.where(linear > 0, 1.055 * linear ** (1 / 2.4) - 0.055, 0)
    assert np.allclose(found, expected)


@pytest.mark.parametrize(("wrap", "expected"), [(Wrap.REPEAT, 0), (Wrap.CLAMP, 3), (Wrap.MIRROR, 3)])
def test_texture_coordinates_wrap(wrap: Wrap, expected: int) -> None:
    image = np.zeros((1, 4, 4), np.uint8)
    image[0, :, 0] = (0, 10, 20, 30)
    texture = Texture(0, wrap_u=wrap, wrap_v=wrap, offset=(1.0, 0.0))  # shifted by one width: texel 4 is asked for
    clip = square_clip(Material(base_color_texture=texture), image)
    found = base_colors(
        clip, clip.frames[0], np.array([0]), np.array([[0.875, 0.125, 0]])
    )  # u = 0.125, the first texel
    assert np.allclose(found[0, 0] * 255, image[0, expected, 0], atol=1e-9)


def test_a_frame_without_a_surface_is_an_error() -> None:
    clip = square_clip(Material(), halves())
    empty = Frame(
        np.zeros((0, 3), np.float32),
        np.zeros((0, 3), np.float32),
        Topology(np.zeros((0, 3), np.int32), np.zeros((0, 0, 3, 2), np.float32), np.zeros(0, np.int32)),
    )
    with pytest.raises(AssetError, match="no triangles"):
        colored_cloud(clip, empty, seed=0)
