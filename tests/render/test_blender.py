"""Real renders of tiny images: positions, materials, and that pixels depend on nothing else."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture, Wrap
from helix4d.core import ConfigError
from helix4d.core.srgb import srgb_to_linear
from helix4d.render import (
    Camera,
    Lights,
    PointLight,
    RenderedImage,
    RenderSettings,
    orbit_camera,
    project,
    sample_camera,
    sample_cameras,
    sample_lights,
)
from helix4d.render.cycles.engine import render_views
from helix4d.render.cycles.tangents import depend_on_timing
from helix4d.render.scene.environment import EnvironmentMap
from helix4d.render.scene.lighting import MapPlacement
from tests.render.clips import box, clip, empty_frame, quad, sphere
from tests.render.measures import WIDE, center, check_texture_transforms, srgb, wrapped

SIZE = 64
QUICK = RenderSettings(image_size=SIZE, samples=4, denoise=False, device="cpu")
FRONT = orbit_camera(-90.0, 0.0, SIZE, fov_deg=40.0, radius=2.0)
EVEN = Lights((), 1.5)
LAMP = Lights((PointLight((0.0, -30.0, 0.0), 1.0),), 0.5)
COLORS = ((1.0, 0.0, 0.0), (0.0, 1.0, 0.0), (0.0, 0.0, 1.0), (1.0, 1.0, 0.0), (0.0, 1.0, 1.0), (1.0, 0.0, 1.0))
MATTE = Material(metallic=0.0, roughness=1.0, base_color=(0.8, 0.8, 0.8))


def picture(
    shown: Clip, camera: Camera = FRONT, lights: Lights = EVEN, settings: RenderSettings = QUICK, frame: int = 0
) -> np.ndarray:
    """(H, W, 4) int of one view of one frame."""
    (image,) = render_views(shown, [camera], [lights], settings, [frame])
    return image.rgba.astype(int)


def unlit_cube() -> Clip:
    materials = [Material(unlit=True, base_color=color) for color in COLORS]
    return clip([box()], materials, ids=[np.repeat(np.arange(6), 2)])


def changing_clip() -> Clip:
    """Four frames: empty, a cube, empty, a ball."""
    cube, ball = unlit_cube(), clip([sphere()], [Material(unlit=True, base_color=COLORS[0])])
    frames = (empty_frame(), cube.frames[0], empty_frame(), ball.frames[0])
    return replace(cube, frames=frames, times=np.arange(4.0))


def check_changing_clip(images: list[RenderedImage]) -> None:
    """Two views of `changing_clip`, the first one `FRONT`."""
    assert [(image.frame, image.view) for image in images] == [(f, v) for f in range(4) for v in range(2)]
    assert [bool(image.rgba.any()) for image in images] == [False, False, True, True, False, False, True, True]
    assert images[2].rgba[32, 32].tolist() == [0, 0, 255, 255]  # -Y faces the first camera
    assert images[6].rgba[0, 0].tolist() == [0, 0, 0, 0]


def mixed_clip() -> Clip:
    """Two frames with textures, masks and glass: everything that might keep state between renders."""
    image = np.random.default_rng(0).integers(0, 256, (16, 16, 4), np.uint8)
    materials = [
        replace(MATTE, base_color_texture=Texture(0)),
        replace(MATTE, base_color_texture=Texture(0), alpha_mode=AlphaMode.MASK),
        Material(metallic=0.0, roughness=0.1, transmission=1.0, thickness=0.1),
        Material(metallic=1.0, roughness=0.3, base_color=(1.0, 0.7, 0.3)),
    ]
    parts = [
        box((-0.5, -0.5, -0.5), (0.5, 0.5, -0.3)),
        quad(0.3, 0.4),
        sphere(0.2, (0.1, -0.2, 0.0), 24),
        sphere(0.15, (-0.2, 0.0, 0.0), 24),
    ]
    shown = clip(parts, materials, [image])
    first = shown.frames[0]
    second = replace(first, vertices=first.vertices[:, [1, 0, 2]] * np.float32([1.0, -1.0, 1.0]))
    return replace(shown, frames=(first, second), times=np.array([0.0, 1.0]))


@pytest.mark.parametrize("view", range(3))
def test_points_of_a_cube_appear_where_the_camera_projects_them(view: int) -> None:
    camera = sample_camera(11, "cube", view, 3, SIZE, "even")
    image = picture(unlit_cube(), camera)
    seen = 0
    for side, color in enumerate(COLORS):
        axis, sign = side // 2, 2 * (side % 2) - 1
        points = np.random.default_rng(side).uniform(-0.4, 0.4, (40, 3))
        points[:, axis] = 0.5 * sign
        if camera.position[axis] * sign <= 0.6:
            continue  # hidden, or too slanted to have whole pixels
        seen += 1
        pixels = project(camera, points)[0].astype(int)
        found = image[pixels[:, 1], pixels[:, 0]]
        np.testing.assert_array_equal(found, np.tile([*(255 * np.array(color)).astype(int), 255], (40, 1)))
    assert seen


def test_images_are_upright() -> None:
    quadrants = np.full((2, 2, 4), 255, np.uint8)
    quadrants[..., :3] = 255 * np.array([[COLORS[0], COLORS[1]], [COLORS[2], COLORS[3]]])
    texture = Texture(0, wrap_u=Wrap.CLAMP, wrap_v=Wrap.CLAMP)
    image = picture(clip([quad()], [Material(unlit=True, base_color_texture=texture)], [quadrants]))
    corners = project(FRONT, 0.45 * np.array([[-1, 0, 1], [1, 0, 1], [-1, 0, -1], [1, 0, -1]]))[0].astype(int)
    np.testing.assert_array_equal(image[corners[:, 1], corners[:, 0], :3], 255 * np.array(COLORS[:4]))


def test_unlit_colors_arrive_exactly() -> None:
    levels = np.arange(256, dtype=np.uint8).reshape(16, 16)
    image = np.stack([levels, levels.T, 255 - levels, np.full_like(levels, 255)], -1)
    camera = orbit_camera(-90.0, 0.0, 128, fov_deg=2.0 * np.degrees(np.arctan(0.25)), radius=2.0)  # 8 pixels a texel
    shown = clip([quad()], [Material(unlit=True, base_color_texture=Texture(0))], [image])
    found = picture(shown, camera, settings=replace(QUICK, image_size=128, samples=16))
    inner = found.reshape(16, 8, 16, 8, 4)[1:-1, 3:5, 1:-1, 3:5].mean(axis=(1, 3))
    smooth = np.abs(np.diff(levels.astype(int), axis=0)).max() <= 16
    assert smooth
    # Interpolation between neighbors is linear light; within half a texel of the center it adds nothing on average.
    assert np.abs(inner[..., 0] - image[1:-1, 1:-1, 0]).max() <= 1.5
    for color in ((0.2, 0.4, 0.8), (0.003, 0.5, 1.0)):
        solid = center(picture(clip([quad()], [Material(unlit=True, base_color=color)])))
        np.testing.assert_allclose(solid[:3], srgb(*color), atol=1.0)


def test_alpha_is_straight() -> None:
    veil = Material(unlit=True, base_color=(0.2, 0.4, 0.8), alpha=0.4, alpha_mode=AlphaMode.BLEND)
    found = center(picture(clip([quad()], [veil]), settings=replace(QUICK, samples=64)))
    np.testing.assert_allclose(found, [*srgb(0.2, 0.4, 0.8), 0.4 * 255], atol=1.0)
    edge = picture(clip([sphere()], [Material(unlit=True, base_color=(0.2, 0.4, 0.8))]))
    partly = (edge[..., 3] > 0) & (edge[..., 3] < 255)
    assert partly.sum() > 50
    assert np.abs(edge[partly][:, :3] - srgb(0.2, 0.4, 0.8)).max() <= 1.0
    assert (edge[edge[..., 3] == 0] == 0).all()


def test_alpha_modes_and_glass_show_what_is_behind_them() -> None:
    image = np.full((2, 2, 4), 255, np.uint8)
    image[..., 3] = 100
    behind = (quad(0.2), Material(unlit=True, base_color=(1.0, 0.0, 0.0)))
    green = Material(metallic=0.0, roughness=0.0, base_color=(0.1, 0.9, 0.1), base_color_texture=Texture(0))
    front = {
        "opaque": green,
        "mask": replace(green, alpha_mode=AlphaMode.MASK, alpha_cutoff=0.5),
        "kept": replace(green, alpha_mode=AlphaMode.MASK, alpha_cutoff=100 / 255),
        "blend": replace(green, alpha_mode=AlphaMode.BLEND),
        "thin glass": Material(metallic=0.0, roughness=0.0, transmission=1.0, base_color=(0.5, 1.0, 1.0)),
    }
    found = {
        name: center(
            picture(clip([quad(), behind[0]], [material, behind[1]], [image]), settings=replace(QUICK, samples=64))
        )
        for name, material in front.items()
    }
    assert all(color[3] == 255 for color in found.values())
    np.testing.assert_array_equal(found["mask"], [255, 0, 0, 255])
    np.testing.assert_allclose(found["kept"], found["opaque"], atol=1.0)
    assert found["opaque"][1] > found["opaque"][0] + 50
    assert found["opaque"][0] + 50 < found["blend"][0] < 250
    # Red through a half-red filter, plus 4 % of the environment in the mirror.
    expected = srgb(0.96 * 0.5 + 0.04 * 1.5 / np.pi, 0.04 * 1.5 / np.pi, 0.04 * 1.5 / np.pi)
    np.testing.assert_allclose(found["thin glass"][:3], expected, atol=12.0)


def test_glass_refracts_and_absorbs_only_as_a_volume() -> None:
    stripes = np.zeros((1, 16, 4), np.uint8)
    stripes[..., 3] = 255
    stripes[:, ::2, :3] = 255
    behind = Material(unlit=True, base_color_texture=Texture(0))
    clear = Material(metallic=0.0, roughness=0.0, transmission=1.0)
    amber = replace(clear, thickness=0.3, attenuation_color=(0.9, 0.5, 0.1), attenuation_distance=0.3)
    shown = {
        name: picture(clip([sphere(0.3, (0, -0.1, 0)), quad(0.4)], [material, behind], [stripes]), lights=LAMP)
        for name, material in {"thin": clear, "volume": replace(clear, thickness=0.3), "amber": amber}.items()
    }
    assert np.abs(shown["thin"] - shown["volume"])[24:40, 24:40, :3].mean() > 20.0
    thin, amber_color = center(shown["volume"]), center(shown["amber"])
    assert amber_color[0] < thin[0] + 1.0
    assert amber_color[2] < 0.7 * thin[2]
    assert amber_color[0] > amber_color[1] > amber_color[2]


@pytest.mark.parametrize("lamp_radius", [None, 0.0, 3.0], ids=["map", "point", "soft"])
def test_glass_around_a_surface_does_not_add_light(lamp_radius: float | None) -> None:
    light = np.full((16, 32, 3), 0.05, np.float32)
    light[4:6, 4:28] = 2.0
    sky = EnvironmentMap("sky", "0" * 64, light)
    lights = Lights((), 0.0, environment_map=MapPlacement(sky.file, sky.sha256, 0.0, 1.0))
    if lamp_radius is not None:
        lights = Lights((PointLight((25.0, -16.0, 0.0), 1.5, radius=lamp_radius),), 0.0)  # not mirrored to the camera
    clear = Material(metallic=0.0, roughness=0.0, transmission=1.0)
    around = {"nothing": None, "thin": clear, "volume": replace(clear, thickness=0.3)}
    found = {}
    for name, glass in around.items():
        parts = [quad(0.2, 0.3)] + ([box((-0.45,) * 3, (0.45,) * 3)] if glass else [])
        shown = clip(parts, [MATTE] + ([glass] if glass else []))
        settings = replace(QUICK, samples=64)
        (image,) = render_views(shown, [FRONT], [lights], settings, [0], {sky.sha256: sky})
        found[name] = srgb_to_linear(image.rgba[28:36, 28:36, :3] / 255.0).mean()
    # The camera's own path loses 4 % at the glass, and sees a little of the map in it.
    np.testing.assert_allclose([found["thin"], found["volume"]], found["nothing"], rtol=0.06)


def test_texture_transforms_and_wrap_modes() -> None:
    settings = replace(QUICK, image_size=128, samples=16)
    check_texture_transforms(lambda shown, camera: picture(shown, camera, settings=settings))


@pytest.mark.parametrize("wrap_u", list(Wrap))
@pytest.mark.parametrize("wrap_v", list(Wrap))
def test_a_texture_is_filtered_over_its_border_as_each_axis_wraps(wrap_u: Wrap, wrap_v: Wrap) -> None:
    colors = np.random.default_rng(2).integers(0, 256, (3, 2, 4), np.uint8)
    colors[..., 3] = 255
    texture = Texture(0, 0, wrap_u, wrap_v, offset=(-1.1, -0.8), scale=(3.0, 3.0))
    shown = clip([quad()], [Material(unlit=True, base_color_texture=texture)], [colors])
    found = picture(shown, WIDE, settings=replace(QUICK, image_size=128, samples=8))
    rows = []
    for wrap, size, scale, offset in ((wrap_v, 3, 3.0, -0.8), (wrap_u, 2, 3.0, -1.1)):
        place = ((np.arange(128) + 0.5) / 128 * scale + offset) * size - 0.5
        low, weights = np.floor(place).astype(int), np.zeros((128, size))
        for step, share in ((0, 1.0 - (place - low)), (1, place - low)):
            weights[np.arange(128), wrapped(low + step, size, wrap)] += share
        rows.append(weights)
    expected = np.einsum("vj,ui,jic->vuc", rows[0], rows[1], colors[..., :3].astype(float))
    assert np.abs(found[..., :3] - expected).mean() < 2.0


def test_every_material_reads_its_own_uv_map() -> None:
    image = np.full((1, 2, 4), 255, np.uint8)
    image[0, :, :3] = [[255, 0, 0], [0, 255, 0]]
    left = Texture(0, scale=(0.0, 0.0), offset=(0.25, 0.5))
    right = replace(left, offset=(0.75, 0.5))
    own = [Material(unlit=True, base_color_texture=left), Material(unlit=True, base_color_texture=right)]
    found = picture(clip([quad()], own, [image], ids=[[0, 1]]))
    np.testing.assert_array_equal(found[40, 24, :3], [255, 0, 0])
    np.testing.assert_array_equal(found[24, 40, :3], [0, 255, 0])


def test_vertex_colors_multiply_color_and_alpha() -> None:
    colors = np.tile(np.float32([0.5, 1.0, 0.25, 0.5]), (2, 3, 1))
    veil = Material(unlit=True, base_color=(0.4, 0.2, 0.8), alpha_mode=AlphaMode.BLEND)
    found = center(picture(clip([quad()], [veil], colors=colors), settings=replace(QUICK, samples=32)))
    np.testing.assert_allclose(found, [*srgb(0.2, 0.2, 0.2), 127.5], atol=1.0)


def test_backs_are_visible_by_default() -> None:
    behind = orbit_camera(90.0, 0.0, SIZE, fov_deg=40.0, radius=2.0)
    assert center(picture(clip([quad()], [MATTE]), behind))[3] == 255
    culled = replace(QUICK, cull_back_faces=True)
    for exact in (True, False):
        hidden = picture(clip([quad()], [MATTE]), behind, settings=replace(culled, exact_alpha=exact))
        assert not hidden.any()
    assert center(picture(clip([quad()], [replace(MATTE, double_sided=True)]), behind, settings=culled))[3] == 255


@pytest.mark.parametrize(("tilt", "lamp"), [((0.7, 0.0), (30, -10, 0)), ((0.0, 0.7), (0, -10, 30))])
def test_normal_maps_tilt_towards_u_and_against_v(tilt: tuple[float, float], lamp: tuple[float, float, float]) -> None:
    lights = Lights((PointLight(lamp, 2.0),), 0.1)
    brightness = []
    for sign, scale in ((1, 1.0), (-1, 1.0), (1, 0.3)):
        normal = np.array([sign * tilt[0], sign * tilt[1], 0.0])
        normal[2] = np.sqrt(1.0 - normal @ normal)
        image = np.full((2, 2, 4), 255, np.uint8)
        image[..., :3] = np.rint(127.5 * normal + 127.5)
        material = replace(MATTE, normal_texture=Texture(0), normal_scale=scale)
        brightness.append(center(picture(clip([quad()], [material], [image]), lights=lights))[0])
    towards, away, weaker = brightness
    assert towards > weaker + 10 > away + 20


def test_metal_roughness_and_emission_change_the_image() -> None:
    lights = Lights((PointLight((0.0, -30.0, 10.0), 1.0),), 0.5)
    plain = Material(metallic=0.0, roughness=0.3, base_color=(0.8, 0.3, 0.3))
    packed = np.full((1, 1, 4), 255, np.uint8)
    packed[..., 1], packed[..., 2] = 51, 255
    variants = {
        "plain": plain,
        "metal": replace(plain, metallic=1.0),
        "rough": replace(plain, roughness=1.0),
        "glowing": replace(plain, emissive=(0.0, 0.5, 0.0)),
        "packed": replace(plain, metallic=1.0, roughness=1.0, metallic_roughness_texture=Texture(0)),
        "same": replace(plain, metallic=1.0, roughness=0.2),
    }
    found = {
        name: picture(clip([sphere()], [material], [packed]), lights=lights, settings=replace(QUICK, samples=16))
        for name, material in variants.items()
    }
    for name in ("metal", "rough", "glowing", "packed"):
        assert np.abs(found[name] - found["plain"]).mean() > 0.5, name
    assert np.abs(found["packed"] - found["same"]).mean() < 0.5
    assert center(found["glowing"])[1] > center(found["plain"])[1] + 30


def test_shading_follows_the_clips_normals_not_the_triangles() -> None:
    # A coarse sphere with smooth normals is shaded smoothly; with face-like normals its facets show.
    coarse = clip([sphere(segments=8)], [MATTE])
    light = Lights((PointLight((30.0, -30.0, 30.0), 2.0),), 0.2)
    smooth = picture(coarse, lights=light)[..., 0]
    tilted = replace(coarse.frames[0], normals=np.tile(np.float32([0, -1, 0]), (len(coarse.frames[0].normals), 1)))
    flat = picture(replace(coarse, frames=(tilted,)), lights=light)[..., 0]
    inner = (slice(26, 38), slice(26, 38))
    assert smooth[inner].std() > 3.0 * flat[inner].std()


def test_a_white_sphere_does_not_clip_in_even_lights() -> None:
    cameras = sample_cameras(5, "white", 6, SIZE)
    shown = clip([sphere()], [Material(metallic=0.0, roughness=1.0)])
    for image in render_views(shown, cameras, sample_lights(5, "white", cameras, "even"), QUICK):
        inside = image.rgba[image.rgba[..., 3] == 255]
        assert (inside[:, :3] == 255).all(axis=1).mean() < 0.01
        assert inside[:, :3].mean() > 100.0  # and it is not dark


def test_the_environment_and_a_lamp_of_the_same_strength_are_equally_bright() -> None:
    shown = clip([quad()], [Material(metallic=0.0, roughness=1.0, ior=1.0, base_color=(0.5, 0.5, 0.5))])
    lamp = center(picture(shown, lights=Lights((PointLight((0.0, -50.0, 0.0), 1.5),), 0.0)))
    sky = center(picture(shown, lights=EVEN, settings=replace(QUICK, samples=64)))
    np.testing.assert_allclose(lamp[:3], srgb(*[0.75 / np.pi] * 3), atol=2.0)
    np.testing.assert_allclose(sky[:3], srgb(*[0.75 / np.pi] * 3), atol=2.0)


def test_frames_without_triangles_are_transparent_and_topology_may_change() -> None:
    shown, cameras = changing_clip(), [FRONT, orbit_camera(0.0, 0.0, SIZE)]
    check_changing_clip(list(render_views(shown, cameras, [EVEN, EVEN], QUICK)))


@pytest.mark.parametrize("denoise", [False, True])
def test_a_view_alone_is_that_view_of_the_set_on_any_number_of_threads(denoise: bool) -> None:
    shown = mixed_clip()
    settings = replace(QUICK, denoise=denoise)
    cameras = sample_cameras(2, "mixed", 4, SIZE)
    lights = sample_lights(2, "mixed", cameras)
    together = {(i.view, i.frame): i.rgba for i in render_views(shown, cameras, lights, settings)}
    assert len(together) == 8
    for view, frame, threads in ((1, 0, 1), (3, 1, 2), (0, 1, 1)):
        alone = picture(shown, cameras[view], lights[view], replace(settings, threads=threads), frame)
        np.testing.assert_array_equal(alone, together[view, frame])


def test_tangents_of_large_meshes_do_not_depend_on_threads() -> None:
    image = np.full((16, 16, 4), 255, np.uint8)
    image[..., :3] = np.random.default_rng(0).integers(96, 160, (16, 16, 3)) + [0, 0, 95]
    material = replace(MATTE, normal_texture=Texture(0))
    ball = clip([sphere(segments=120)], [material], [image])
    assert len(ball.frames[0].faces) > 10_000  # Blender adds up the tangents of smaller meshes in one thread
    frame = ball.frames[0]
    frames = tuple(replace(frame, vertices=frame.vertices * np.float32(size)) for size in np.linspace(0.6, 1.0, 8))
    shown = replace(ball, frames=frames, times=np.arange(8.0))
    settings = replace(QUICK, samples=1, passes=True)
    one, two = (
        np.stack([i.normal for i in render_views(shown, [FRONT], [LAMP], replace(settings, threads=threads))])
        for threads in (1, 2)
    )
    np.testing.assert_array_equal(one, two)
    # Others keep their threads.
    assert not depend_on_timing(clip([sphere(segments=120)], [MATTE]))
    assert not depend_on_timing(clip([sphere()], [material], [image]))


def test_a_second_clip_in_a_process_looks_as_in_a_fresh_one(tmp_path: Path) -> None:
    shown = mixed_clip()
    picture(unlit_cube())
    here = [image.rgba for image in render_views(shown, [FRONT], [LAMP], QUICK)]
    shown.save(tmp_path / "clip.safetensors")
    script = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom helix4d.assets import Clip\n"
        "from tests.render.test_blender import FRONT, LAMP, QUICK\n"
        "from helix4d.render.cycles.engine import render_views\n"
        "clip = Clip.load(Path(sys.argv[1]) / 'clip.safetensors')\n"
        "images = [image.rgba for image in render_views(clip, [FRONT], [LAMP], QUICK)]\n"
        "np.save(Path(sys.argv[1]) / 'images.npy', images)\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=root, timeout=300)
    np.testing.assert_array_equal(np.stack(here), np.load(tmp_path / "images.npy"))


def test_rendering_prints_nothing_and_leaves_no_files(
    capfd: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    picture(unlit_cube())
    captured = capfd.readouterr()
    assert (captured.out, captured.err) == ("", "")
    assert list(tmp_path.iterdir()) == []


def test_degenerate_faces_and_missing_uv_sets_are_harmless() -> None:
    shown = clip(
        [quad()], [Material(unlit=True, base_color_texture=Texture(0, uv_set=3))], [np.full((1, 1, 4), 255, np.uint8)]
    )
    frame = shown.frames[0]
    faces = frame.faces.copy()
    faces[1] = [1, 1, 2]
    broken = replace(frame, topology=replace(frame.topology, faces=faces))
    assert center(picture(replace(shown, frames=(broken,))))[3] > 0


def test_arguments_that_do_not_match_are_refused() -> None:
    with pytest.raises(ConfigError, match="1 cameras and 2 lights"):
        render_views(unlit_cube(), [FRONT], [EVEN, EVEN], QUICK)
    with pytest.raises(ConfigError, match="the camera has image_size 64"):
        render_views(unlit_cube(), [FRONT], [EVEN], RenderSettings())
    with pytest.raises(ConfigError, match="frame 3"):
        render_views(unlit_cube(), [FRONT], [EVEN], QUICK, [3])
    with pytest.raises(ConfigError, match="denoise_quality 'best'"):
        RenderSettings(denoise_quality="best")
    with pytest.raises(ConfigError, match="device 'abacus'"):
        RenderSettings(device="abacus")


def test_importing_the_package_does_not_start_blender() -> None:
    script = "import helix4d.render, sys; assert 'bpy' not in sys.modules"
    subprocess.run([sys.executable, "-c", script], check=True, cwd=Path(__file__).resolve().parents[2], timeout=60)
