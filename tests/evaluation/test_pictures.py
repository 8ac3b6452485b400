"""Images show the front by default, rotate in the right direction, and have normals in the camera's frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Frame, Material, Topology
from helix4d.evaluation import Surface
from helix4d.evaluation.metrics.metric import View
from helix4d.evaluation.tables.pictures import draw
from tests.evaluation.shapes import box, join
from tests.packages import skip_without

skip_without("bpy")


def clip_of(*surfaces: Surface | None) -> Clip:
    frames = []
    for surface in surfaces:
        faces = np.zeros((0, 3), np.int32) if surface is None else surface.faces
        corners = np.zeros((0, 3), np.float32) if surface is None else surface.vertices[faces].reshape(-1, 3)
        triangles = corners.reshape(-1, 3, 3)
        normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
        normals = np.repeat(normals / np.linalg.norm(normals, axis=1, keepdims=True), 3, axis=0).astype(np.float32)
        apart = np.arange(len(corners), dtype=np.int32).reshape(-1, 3)
        topology = Topology(apart, np.zeros((0, len(faces), 3, 2), np.float32), np.zeros(len(faces), np.int32))
        frames.append(Frame(corners.astype(np.float32), normals, topology))
    return Clip("", 0, np.arange(len(frames), dtype=float), tuple(frames), (Material(metallic=0.0),))


ARM = join(box((-0.1, -0.1, -0.1), (0.1, 0.1, 0.1)), box((0.1, -0.05, -0.05), (0.45, 0.05, 0.05)))
"""A block with an arm along +X."""


def middle(picture: np.ndarray) -> float:
    """Mean column of the covered pixels, -1 to 1."""
    columns = np.nonzero(picture[..., 3] > 127)[1]
    return float(columns.min() + columns.max() + 1) / picture.shape[1] - 1


def test_views_turn_about_z_and_empty_frames_are_transparent() -> None:
    clip = clip_of(ARM, None, ARM)
    front = draw(clip, View(0, 0, "color", 48))
    assert front.shape == (3, 48, 48, 4)
    assert front.dtype == np.uint8
    assert front[1].max() == 0
    np.testing.assert_array_equal(front[0], front[2])
    assert middle(front[0]) > 0.15
    assert middle(draw(clip, View(180, 0, "color", 48))[0]) < -0.15
    side = draw(clip, View(90, 0, "color", 48))[0]
    assert abs(middle(side)) < 0.05


@pytest.mark.parametrize(("azimuth", "elevation"), [(0, 0), (90, 0), (180, 0), (0, 90)])
def test_a_face_towards_the_camera_is_blue(azimuth: float, elevation: float) -> None:
    picture = draw(clip_of(box((-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))), View(azimuth, elevation, "normal", 32))[0]
    assert np.abs(picture[16, 16].astype(int) - [128, 128, 255, 255]).max() <= 2
    assert picture[0, 0].tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(("low", "high", "red"), [(0.2, 0.4, 0), (-0.4, -0.2, 255)])
def test_a_side_along_the_view_has_one_color(low: float, high: float, red: int) -> None:
    """Perspective shows the inner side of an off-center block, whose normal is orthogonal to the camera's z axis."""
    block = clip_of(box((low, -0.4, -0.2), (high, 0.4, 0.2)))
    picture = draw(block, View(0, 0, "normal", 96))[0]
    side = picture[(picture[..., 3] > 250) & (picture[..., 2] < 140)].astype(int)
    assert len(side) > 50
    assert np.abs(side[:, 0] - red).max() <= 3


def test_normals_of_thin_smoke_are_those_of_its_surface() -> None:
    smoke = Material(metallic=0.0, alpha=0.2, alpha_mode=AlphaMode.BLEND)
    clip = replace(clip_of(box((-0.2, -0.2, -0.2), (0.2, 0.2, 0.2))), materials=(smoke,))
    picture = draw(clip, View(0, 0, "normal", 32))[0]
    assert np.abs(picture[16, 16].astype(int) - [128, 128, 255, 255]).max() <= 2
    assert draw(clip, View(0, 0, "color", 32))[0, 16, 16, 3] < 128


def test_images_for_metrics_have_less_noise_than_drafts() -> None:
    shells = join(*(box((-r, -r, -r), (r, r, r)) for r in (0.2, 0.25, 0.3, 0.35)))
    smoke = Material(metallic=0.0, alpha=0.3, alpha_mode=AlphaMode.BLEND)
    clip = replace(clip_of(shells), materials=(smoke,))
    middles = [draw(clip, View(0, 0, "color", 64, draft))[0, 24:40, 24:40, :3].astype(float) for draft in (False, True)]
    fine, coarse = (middle.std(axis=(0, 1)).mean() for middle in middles)
    assert fine < 0.6 * coarse
    assert abs(middles[0].mean() - middles[1].mean()) < 2


def test_both_sides_of_a_sheet_face_the_camera() -> None:
    sheet = Surface(
        np.array([[-0.3, 0, -0.3], [0.3, 0, -0.3], [0.3, 0, 0.3], [-0.3, 0, 0.3]], np.float32),
        np.array([[0, 1, 2], [0, 2, 3]], np.int32),
    )
    clip = replace(clip_of(sheet), materials=(Material(metallic=0.0, double_sided=True),))
    for azimuth in (0, 180):
        picture = draw(clip, View(azimuth, 0, "normal", 32))[0]
        assert np.abs(picture[16, 16].astype(int) - [128, 128, 255, 255]).max() <= 2


def test_right_is_red_and_up_is_green() -> None:
    cube = clip_of(box((-0.2, -0.2, -0.2), (0.2, 0.2, 0.2)))
    corner = draw(cube, View(45, 0, "normal", 32))[0].astype(int)
    root = round((np.sqrt(0.5) + 1) / 2 * 255)
    assert np.abs(corner[16, 20, :3] - [root, 128, root]).max() <= 3
    assert np.abs(corner[16, 11, :3] - [255 - root, 128, root]).max() <= 3
    above = draw(cube, View(0, 45, "normal", 32))[0].astype(int)
    assert np.abs(above[11, 16, :3] - [128, root, root]).max() <= 3
