from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets import Material
from helix4d.render import orbit_camera, picture_ovoxel, project, resized
from helix4d.voxelize import OVoxel, prepare_surface, voxelize_frame
from tests.curation.clips import box, clip_of, sphere

SIZE = 96


def ball(radius: float = 0.3) -> OVoxel:
    clip = clip_of([sphere(radius, cuts=24)], materials=(Material(base_color=(1.0, 0.5, 0.0)),))
    return voxelize_frame(clip.frames[0], prepare_surface(clip), 64)


def test_a_sphere_is_a_disc_of_the_right_size_and_color() -> None:
    camera = orbit_camera(30.0, 20.0, SIZE)
    picture = picture_ovoxel(ball(), camera)
    y, x = np.indices((SIZE, SIZE)) + 0.5
    distance = np.linalg.norm(camera.position)
    radius = camera.focal * 0.3 / np.sqrt(distance**2 - 0.3**2)
    wanted = np.hypot(x - SIZE / 2, y - SIZE / 2) < radius
    seen = picture.rgba[..., 3] > 127
    assert (seen & wanted).sum() / (seen | wanted).sum() > 0.97
    middle = picture.rgba[SIZE // 2, SIZE // 2].astype(int)
    assert middle[0] > 240
    assert abs(middle[1] - middle[0] / 2) < 6
    assert middle[2] < 3
    assert middle[3] == 255


def test_normals_are_in_world_space_and_face_the_camera() -> None:
    camera = orbit_camera(-70.0, 35.0, SIZE)
    picture = picture_ovoxel(ball(), camera)
    inside = picture.rgba[..., 3] == 255
    assert np.allclose(np.linalg.norm(picture.normal[inside], axis=1), 1, atol=1e-5)
    towards = camera.position / np.linalg.norm(camera.position)
    assert picture.normal[SIZE // 2, SIZE // 2] @ towards > 0.97
    assert (picture.normal[inside] @ towards > -0.1).mean() > 0.99
    assert not picture.normal[picture.rgba[..., 3] == 0].any()


def test_nearer_surfaces_hide_farther_ones_and_alpha_lets_them_through() -> None:
    ovoxel = ball()
    half = replace(ovoxel, alpha=np.full_like(ovoxel.alpha, 128))
    picture = picture_ovoxel(half, orbit_camera(0.0, 0.0, SIZE))
    alpha = picture.rgba[40:56, 40:56, 3].mean() / 255
    # Two walls of half alpha: the dither of one fills the holes of the other, or half stays.
    assert 0.45 < alpha < 1.0
    gone = replace(ovoxel, alpha=np.zeros_like(ovoxel.alpha))
    assert not picture_ovoxel(gone, orbit_camera(0.0, 0.0, SIZE)).rgba.any()
    left = voxelize_frame((clip := clip_of([box(0.2, (0.3, 0, 0))])).frames[0], prepare_surface(clip), 32)
    camera = orbit_camera(0.0, 0.0, SIZE)
    pixels, _ = project(camera, np.array([0.3, 0.0, 0.0]))
    rgba = picture_ovoxel(left, camera).rgba
    rows, columns = np.nonzero(rgba[..., 3] > 127)
    assert abs(rows.mean() + 0.5 - pixels[1]) < 1
    assert abs(columns.mean() + 0.5 - pixels[0]) < 1


def test_an_empty_ovoxel_produces_an_empty_picture_and_cameras_scale() -> None:
    camera = resized(orbit_camera(0.0, 0.0, 64), 32)
    picture = picture_ovoxel(OVoxel.empty(64), camera)
    assert picture.rgba.shape == (32, 32, 4)
    assert not picture.rgba.any()
    assert not picture.normal.any()
    point = np.array([0.1, 0.2, -0.3])
    assert np.allclose(project(camera, point)[0] * 2, project(orbit_camera(0.0, 0.0, 64), point)[0])
