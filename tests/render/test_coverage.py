from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture, Wrap
from helix4d.render import orbit_camera, project, sample_cameras
from helix4d.render.alpha.coverage import SAMPLES, Coverage
from tests.render.clips import box, clip, empty_frame, quad, sphere

FRONT = orbit_camera(-90.0, 0.0, 64, fov_deg=40.0, radius=2.0)


def alpha_of(shown: Clip, **options: bool) -> np.ndarray:
    alpha = Coverage(shown, **options).alpha(0, FRONT)
    assert alpha is not None
    return alpha


def test_a_sphere_covers_its_disc() -> None:
    alpha = alpha_of(clip([sphere(segments=256)], [Material()]))
    radius = FRONT.focal * 0.5 / np.sqrt(2.0**2 - 0.5**2)
    assert alpha.sum() == pytest.approx(np.pi * radius**2, rel=2e-3)
    y, x = np.indices(alpha.shape) + 0.5
    distance = np.hypot(x - 32.0, y - 32.0)
    assert (alpha[distance < radius - 1.0] == 1.0).all()
    assert (alpha[distance > radius + 1.0] == 0.0).all()
    edge = alpha[(alpha > 0.0) & (alpha < 1.0)]
    assert len(np.unique(edge)) > SAMPLES // 2


def test_an_edge_crosses_a_pixel_in_even_steps() -> None:
    widths = []
    for step in range(SAMPLES):
        right = 0.5 + (step / SAMPLES) / FRONT.focal * 2.0
        left, normals, faces, uvs = quad()
        left = left.copy()
        left[2:, 0] = right
        widths.append(alpha_of(clip([(left, normals, faces, uvs)], [Material()]))[32].sum())
    np.testing.assert_allclose(np.diff(widths), 1.0 / SAMPLES, atol=1e-6)


def test_neighbors_share_an_edge_without_overlap_or_gap() -> None:
    # A fan of thin triangles: every sample belongs to exactly one of them, so translucency is even everywhere.
    glass = Material(alpha=0.25, alpha_mode=AlphaMode.BLEND)
    turn = np.linspace(0.0, 2.0 * np.pi, 33)[:-1]
    vertices = np.vstack([[0.0, 0.0, 0.0], np.stack([np.cos(turn), 0.0 * turn, np.sin(turn)], 1) * 0.5])
    around = np.arange(32)
    faces = np.stack([0 * around, 1 + around, 1 + (around + 1) % 32], 1)
    part = (vertices, np.tile([0.0, -1.0, 0.0], (33, 1)), faces, np.zeros((32, 3, 2)))
    alpha = alpha_of(clip([part], [glass]))
    assert set(np.unique(alpha[24:40, 24:40])) == {np.float32(0.25)}


def test_the_transmittance_of_layers_multiplies_in_any_order() -> None:
    half = Material(alpha=0.5, alpha_mode=AlphaMode.BLEND)
    layers = clip([quad(-0.2), quad(0.0), quad(0.2)], [half] * 3)
    backwards = clip([quad(0.2), quad(0.0), quad(-0.2)], [half] * 3)
    assert alpha_of(layers)[32, 32] == 0.875
    np.testing.assert_array_equal(alpha_of(layers), alpha_of(backwards))
    assert alpha_of(clip([quad(-0.2), quad(0.0)], [half, Material()]))[32, 32] == 1.0


def test_opaque_ignores_alpha_and_a_mask_keeps_alpha_equal_to_the_cutoff() -> None:
    image = np.full((4, 4, 4), 255, np.uint8)
    image[:, :2, 3] = 51  # 0.2 on the left
    texture = Texture(0, wrap_u=Wrap.CLAMP, wrap_v=Wrap.CLAMP)
    opaque = Material(base_color_texture=texture, alpha=0.5)
    shown = {
        "opaque": opaque,
        "at": replace(opaque, alpha=1.0, alpha_mode=AlphaMode.MASK, alpha_cutoff=0.2),
        "above": replace(opaque, alpha=1.0, alpha_mode=AlphaMode.MASK, alpha_cutoff=0.21),
        "blend": replace(opaque, alpha_mode=AlphaMode.BLEND),
    }
    left = {name: alpha_of(clip([quad()], [material], [image]))[32, 16] for name, material in shown.items()}
    assert left == {"opaque": 1.0, "at": 1.0, "above": 0.0, "blend": pytest.approx(0.1, abs=1e-6)}


def test_a_mask_below_its_cutoff_covers_nothing() -> None:
    """In glTF a cutoff above 1 makes a material fully transparent, with or without a texture."""
    mask = Material(alpha_mode=AlphaMode.MASK, alpha_cutoff=1.5)
    assert alpha_of(clip([quad()], [mask])).max() == 0.0
    assert alpha_of(clip([quad()], [replace(mask, alpha=0.7, alpha_cutoff=0.7)])).max() == 1.0
    assert alpha_of(clip([quad()], [replace(mask, alpha=0.7, alpha_cutoff=0.71)])).max() == 0.0


@pytest.mark.parametrize("wrap", list(Wrap))
def test_alpha_textures_follow_wrap_transform_and_perspective(wrap: Wrap) -> None:
    rng = np.random.default_rng(0)
    image = rng.integers(0, 256, (8, 8, 4), np.uint8)
    texture = Texture(0, wrap_u=wrap, wrap_v=wrap, offset=(-0.3, 0.2), scale=(1.7, 2.3), rotation=0.4)
    tilted, normals, faces, uvs = quad()
    tilted = tilted.copy()
    tilted[[0, 3], 1] = 0.4
    shown = clip(
        [(tilted, normals, faces, uvs)], [Material(base_color_texture=texture, alpha_mode=AlphaMode.BLEND)], [image]
    )
    sharp = orbit_camera(-90.0, 0.0, 512, fov_deg=40.0, radius=2.0)
    alpha = Coverage(shown).alpha(0, sharp)
    assert alpha is not None
    # Points of the surface, their UVs and what the image holds there.
    s, t = rng.random((2, 4000))
    points = tilted[0] + s[:, None] * (tilted[3] - tilted[0]) + t[:, None] * (tilted[1] - tilted[0])
    sampled = np.stack([s, t, np.ones_like(s)], -1) @ texture.matrix().T
    texel = np.floor(sampled * 8).astype(int)
    folded = {
        Wrap.REPEAT: texel % 8,
        Wrap.CLAMP: texel.clip(0, 7),
        Wrap.MIRROR: np.minimum(texel % 16, 15 - texel % 16),
    }
    center = (np.abs(sampled * 8 - texel - 0.5) < 0.04).all(axis=1)  # where interpolation changes little
    expected = image[folded[wrap][center, 1], folded[wrap][center, 0], 3] / 255.0
    pixel = project(sharp, points[center])[0].astype(int)
    assert center.sum() > 10
    assert np.abs(alpha[pixel[:, 1], pixel[:, 0]] - expected).max() < 0.12


@pytest.mark.parametrize(("mode", "mean", "most"), [(AlphaMode.BLEND, 1.0, 8.0), (AlphaMode.MASK, 3.0, 16.0)])
def test_a_texture_seen_from_afar_covers_its_mean(mode: AlphaMode, mean: float, most: float) -> None:
    # 23 texels a pixel, in blocks of 8. With a point a sample the mean error was 12 levels, the largest 57.
    blocks = np.random.default_rng(0).integers(0, 2, (128, 128)) * 255
    image = np.full((1024, 1024, 4), 255, np.uint8)
    image[..., 3] = np.kron(blocks, np.ones((8, 8), int))
    material = Material(base_color_texture=Texture(0), alpha_mode=mode, alpha_cutoff=0.5)
    alpha = alpha_of(clip([quad()], [material], [image]))
    fine = (np.arange(64 * 50) + 0.5) / 50  # 50 points a pixel
    across = np.floor(((fine - 32.0) / FRONT.focal * 2.0 + 0.5) * 1024).astype(int)
    inside = (across >= 0) & (across < 1024)
    shown = np.zeros((len(fine), len(fine)))
    shown[np.ix_(inside, inside)] = image[np.ix_(across[inside], across[inside])][..., 3] / 255.0
    expected = shown.reshape(64, 50, 64, 50).mean(axis=(1, 3))
    error = np.abs(alpha - expected)[12:52, 12:52] * 255.0
    assert error.mean() < mean
    assert error.max() < most


def test_culling_is_a_choice() -> None:
    behind = orbit_camera(90.0, 0.0, 64, fov_deg=40.0, radius=2.0)
    for double_sided, cull, visible in ((False, True, False), (False, False, True), (True, True, True)):
        shown = Coverage(clip([quad()], [Material(double_sided=double_sided)]), cull_back_faces=cull)
        seen, front = shown.alpha(0, behind), shown.alpha(0, FRONT)
        assert seen is not None
        assert front is not None
        assert bool(seen.any()) is visible
        assert front.any()


def test_a_camera_inside_the_object_is_left_to_the_renderer() -> None:
    inside = orbit_camera(0.0, 0.0, 64, radius=0.2)
    assert Coverage(clip([box()], [Material()])).alpha(0, inside) is None


def test_an_empty_frame_covers_nothing() -> None:
    shown = clip([box()], [Material()])
    alpha = Coverage(replace(shown, frames=(empty_frame(),))).alpha(0, FRONT)
    assert alpha is not None
    assert not alpha.any()


def test_the_projected_cube_is_covered() -> None:
    for camera in sample_cameras(0, "cube", 4, 128):
        alpha = Coverage(clip([box()], [Material()])).alpha(0, camera)
        corners = np.array([[x, y, z] for x in (-0.5, 0.5) for y in (-0.5, 0.5) for z in (-0.5, 0.5)])
        pixels, _ = project(camera, corners)
        assert alpha is not None
        rows, columns = np.nonzero(alpha)
        np.testing.assert_allclose([columns.min(), rows.min()], np.floor(pixels.min(axis=0)), atol=1)
        np.testing.assert_allclose([columns.max(), rows.max()], np.floor(pixels.max(axis=0)), atol=1)
