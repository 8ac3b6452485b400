"""The rasterizer compared with Cycles: equal alpha and positions, nearly equal light; and the order of layers."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture
from helix4d.core import ConfigError
from helix4d.render import (
    Camera,
    Lights,
    PointLight,
    RenderedImage,
    load_engine,
    orbit_camera,
    project,
    sample_camera,
    sample_cameras,
    sample_lights,
)
from helix4d.render.cycles.engine import render_views as trace
from tests.render import chart
from tests.render.clips import box, clip, quad, sphere
from tests.render.egl import needs_egl
from tests.render.measures import WIDE, center, check_preview, check_texture_transforms, psnr, srgb
from tests.render.test_blender import (
    COLORS,
    EVEN,
    FRONT,
    LAMP,
    MATTE,
    QUICK,
    SIZE,
    changing_clip,
    check_changing_clip,
    mixed_clip,
    unlit_cube,
)

pytestmark = needs_egl

RED = Material(unlit=True, base_color=(1.0, 0.0, 0.0))


def rasterize(
    shown: Clip, cameras: Sequence[Camera] = (FRONT,), lights: Lights = EVEN, **changes: object
) -> list[RenderedImage]:
    settings = replace(QUICK, image_size=cameras[0].image_size, **changes)
    return list(load_engine("raster")(shown, cameras, [lights] * len(cameras), settings))


def picture(shown: Clip, camera: Camera = FRONT, lights: Lights = EVEN, **changes: object) -> np.ndarray:
    (image,) = rasterize(shown, [camera], lights, **changes)
    return image.rgba.astype(int)


def traced(shown: Clip, camera: Camera = FRONT, lights: Lights = EVEN, **changes: object) -> RenderedImage:
    settings = replace(QUICK, image_size=camera.image_size, **{"samples": 64, **changes})
    (image,) = trace(shown, [camera], [lights], settings, [0])
    return image


@pytest.mark.parametrize("view", range(3))
def test_a_flat_cube_is_exact_and_in_the_same_place_as_in_cycles(view: int) -> None:
    camera = sample_camera(11, "cube", view, 3, SIZE, "even")
    image, truth = picture(unlit_cube(), camera), traced(unlit_cube(), camera).rgba.astype(int)
    np.testing.assert_array_equal(image[..., 3], truth[..., 3])
    seen = 0
    for side, color in enumerate(COLORS):
        axis, sign = side // 2, 2 * (side % 2) - 1
        points = np.random.default_rng(side).uniform(-0.4, 0.4, (40, 3))
        points[:, axis] = 0.5 * sign
        if camera.position[axis] * sign <= 0.6:
            continue
        seen += 1
        pixels = project(camera, points)[0].astype(int)
        np.testing.assert_array_equal(
            image[pixels[:, 1], pixels[:, 0]], np.tile([*(255 * np.array(color)).astype(int), 255], (40, 1))
        )
    assert seen
    assert psnr(image, truth) > 30


def test_matte_objects_look_as_in_cycles() -> None:
    """Without lamps and without occlusion."""
    shapes = {
        "ball": clip([sphere()], [MATTE]),
        "box": clip([box()], [replace(MATTE, base_color=(0.9, 0.4, 0.1))]),
        "egg": clip([sphere()], [replace(MATTE, roughness=0.6)]).with_vertices(
            [(sphere()[0] * [0.5, 0.8, 1.0]).astype(np.float32)]
        ),
    }
    for name, shown in shapes.items():
        for camera in (FRONT, orbit_camera(30.0, 40.0, SIZE)):
            truth = traced(shown, camera).rgba
            image = picture(shown, camera)
            np.testing.assert_array_equal(image[..., 3], truth[..., 3])
            assert psnr(image, truth) > 38, name
    assert psnr(picture(shapes["ball"], lights=LAMP), traced(shapes["ball"], lights=LAMP).rgba) > 38


@pytest.mark.parametrize(
    ("name", "least"),
    [
        ("gray", 48),
        ("metallic", 37),
        ("smooth", 47),
        ("rough", 48),
        ("normal map", 42),
        ("emissive, dark", 46),
        ("texture", 37),
        ("transformed", 30),
        ("vertex color", 45),
        ("unlit", 46),
        ("specular-glossiness", 38),
        ("inside, double-sided", 48),
        ("mask", 26),
        ("blend", 27),
        ("stripes, gray", 36),
        ("transmission", 23),
    ],
)
def test_spheres_of_the_chart(name: str, least: float) -> None:
    patch = chart.patches()[name]
    settings = replace(chart.SETTINGS, cull_back_faces=patch.inside_out, samples=16)
    camera = orbit_camera(-90.0, 10.0, chart.SIZE, 40.0, 1.5)
    lights = chart.DARK if patch.dark else chart.LIGHTS
    images = [
        next(iter(render(chart.shape(patch), [camera], [lights], settings, [0]))).rgba
        for render in (load_engine("raster"), trace)
    ]
    np.testing.assert_array_equal(images[0][..., 3], images[1][..., 3])
    assert psnr(*images) > least


def test_depth_and_normals_are_those_of_cycles() -> None:
    shown = clip([sphere(0.3, (-0.1, 0.1, 0.0)), box((0.1, -0.4, -0.4), (0.4, 0.0, 0.4))], [MATTE, MATTE])
    camera = orbit_camera(-70.0, 20.0, SIZE, 40.0, 2.5)
    (image,), truth = rasterize(shown, [camera], passes=True), traced(shown, camera, passes=True, samples=16)
    depth, normal = image.depth, image.normal
    assert depth is not None
    assert normal is not None
    assert truth.depth is not None
    assert truth.normal is not None
    assert (depth.dtype, normal.dtype) == (np.float32, np.float32)
    outside, inside = image.rgba[..., 3] == 0, image.rgba[..., 3] == 255
    assert not depth[outside].any()
    assert not normal[outside].any()
    assert np.allclose(np.linalg.norm(normal[inside], axis=1), 1, atol=1e-3)
    # Each has the depth of one point of the pixel, not of the same one.
    assert np.median(np.abs(depth - truth.depth)[inside]) < 0.004
    assert np.median(np.einsum("ijk,ijk->ij", normal, truth.normal)[inside]) > 0.999
    flat = rasterize(clip([box()], [MATTE]), [orbit_camera(-90.0, 0.0, SIZE, 40.0, 2.5)], passes=True)[0]
    front = flat.rgba[..., 3] == 255
    assert flat.depth is not None
    assert flat.normal is not None
    assert np.allclose(flat.depth[front], 2.0, atol=1e-4)
    assert np.allclose(flat.normal[front], (0, -1, 0), atol=1e-4)


def test_passes_change_no_color_and_skip_surfaces_below_half_alpha() -> None:
    veil = replace(MATTE, alpha=0.4, alpha_mode=AlphaMode.BLEND)
    shown = clip([quad(), quad(0.3)], [veil, MATTE])
    (image,) = rasterize(shown, passes=True)
    np.testing.assert_array_equal(image.rgba, picture(shown))
    assert image.depth is not None
    assert image.depth[32, 32] == pytest.approx(2.3, abs=1e-4)
    thicker = clip([quad(), quad(0.3)], [replace(veil, alpha=0.6), MATTE])
    (image,) = rasterize(thicker, passes=True)
    assert image.depth is not None
    assert image.depth[32, 32] == pytest.approx(2.0, abs=1e-4)


def test_layers_are_drawn_back_to_front_in_any_order() -> None:
    near = Material(unlit=True, base_color=(0.0, 1.0, 0.0), alpha=0.5, alpha_mode=AlphaMode.BLEND)
    middle = Material(unlit=True, base_color=(0.0, 0.0, 1.0), alpha=0.25, alpha_mode=AlphaMode.BLEND)
    layers = [(quad(-0.2), near), (quad(0.0), middle), (quad(0.3), RED)]
    expected = [*srgb(0.5 * 0.75, 0.5, 0.5 * 0.25), 255]
    for order in ([0, 1, 2], [2, 1, 0], [1, 2, 0]):
        shown = clip([layers[i][0] for i in order], [layers[i][1] for i in order])
        np.testing.assert_allclose(center(picture(shown)), expected, atol=1.0)
    behind = orbit_camera(90.0, 0.0, SIZE, fov_deg=40.0, radius=2.0)
    np.testing.assert_allclose(center(picture(shown, behind)), [255, 0, 0, 255], atol=0.0)
    veil = picture(clip([quad()], [near]))
    np.testing.assert_allclose(center(veil), [0, 255, 0, 127.5], atol=0.6)


def test_many_layers_of_two_materials_keep_their_order() -> None:
    """With more runs than draw calls, faces are grouped by material within slices of depth."""
    green, blue = (
        Material(unlit=True, base_color=color, alpha=0.02, alpha_mode=AlphaMode.BLEND)
        for color in ((0.0, 1.0, 0.0), (0.0, 0.0, 1.0))
    )
    parts = [quad(y) for y in np.linspace(-0.5, 0.5, 400)]
    shown = clip(parts, [green, blue], ids=[i % 2 for i in range(400)])
    np.testing.assert_allclose(center(picture(shown)), [*srgb(0.0, 0.5, 0.5), 255], atol=4.0)


def test_masks_are_cut_within_a_pixel_and_show_what_is_behind() -> None:
    holes = np.full((4, 4, 4), 255, np.uint8)
    holes[:, ::2, 3] = 0
    cut = Material(unlit=True, base_color_texture=Texture(0), alpha_mode=AlphaMode.MASK)
    shown = clip([quad(), quad(0.1)], [cut, RED], [holes])
    image, truth = picture(shown, WIDE), traced(shown, WIDE).rgba
    np.testing.assert_array_equal(image[..., 3], truth[..., 3])
    assert psnr(image, truth) > 27
    row = image[64]
    assert {tuple(pixel) for pixel in row[:, :3]} >= {(255, 255, 255), (255, 0, 0)}
    slanted = orbit_camera(-60.0, 17.0, 128)
    assert len(np.unique(picture(shown, slanted)[40:90, 40:90, 1])) > 3, "pixels on an edge see both"


def test_texture_transforms_and_wrap_modes() -> None:
    check_texture_transforms(picture)


def test_every_texture_reads_its_own_uv_set() -> None:
    image = np.full((1, 2, 4), 255, np.uint8)
    image[0, :, :3] = [[255, 0, 0], [0, 255, 0]]
    material = Material(unlit=True, base_color_texture=Texture(0, uv_set=1))
    shown = clip([quad()], [material], [image])
    topology = shown.frames[0].topology
    sets = np.stack([topology.uvs[0], np.full_like(topology.uvs[0], 0.25), np.full_like(topology.uvs[0], 0.75)])
    for uv_set, color in ((1, [255, 0, 0]), (2, [0, 255, 0])):
        own = replace(material, base_color_texture=Texture(0, uv_set=uv_set))
        frame = replace(shown.frames[0], topology=replace(topology, uvs=sets))
        assert picture(replace(shown, frames=(frame,), materials=(own,)))[32, 32, :3].tolist() == color
    missing = replace(shown, materials=(replace(material, base_color_texture=Texture(0, uv_set=7)),))
    assert picture(missing)[32, 32, 3] == 255


def test_glass_tints_what_is_behind_it_and_covers() -> None:
    pane = Material(metallic=0.0, roughness=0.0, transmission=1.0, base_color=(0.5, 1.0, 1.0))
    for shown in (clip([quad(), quad(0.2)], [pane, RED]), clip([quad()], [pane])):
        image, truth = center(picture(shown)), center(traced(shown).rgba)
        np.testing.assert_allclose(image, truth, atol=3.0)
    amber = replace(pane, base_color=(1.0, 1.0, 1.0), thickness=0.3, attenuation_color=(0.9, 0.5, 0.1))
    shown = clip([sphere(0.3, (0, -0.1, 0)), quad(0.4)], [replace(amber, attenuation_distance=0.3), RED])
    red, green, blue, alpha = center(picture(shown))
    assert red > green
    assert green == pytest.approx(blue, abs=3.0), "nothing but a reflection of the environment"
    assert alpha == 255


def test_vertex_colors_multiply_color_and_alpha() -> None:
    colors = np.tile(np.float32([0.5, 1.0, 0.25, 0.5]), (2, 3, 1))
    veil = Material(unlit=True, base_color=(0.4, 0.2, 0.8), alpha_mode=AlphaMode.BLEND)
    found = center(picture(clip([quad()], [veil], colors=colors)))
    np.testing.assert_allclose(found, [*srgb(0.2, 0.2, 0.2), 127.5], atol=1.0)
    halves = colors.copy()
    halves[1] = [1.0, 1.0, 1.0, 1.0]
    split = picture(clip([quad()], [veil], colors=halves))
    assert split[40, 24, 3] == pytest.approx(127.5, abs=1.0)
    assert split[24, 40].tolist()[3] == 255


def test_backs_are_visible_by_default() -> None:
    behind = orbit_camera(90.0, 0.0, SIZE, fov_deg=40.0, radius=2.0)
    front = center(picture(clip([quad()], [MATTE])))
    np.testing.assert_allclose(center(picture(clip([quad()], [MATTE]), behind)), front, atol=1.0)
    for exact in (True, False):
        culled = {"cull_back_faces": True, "exact_alpha": exact}
        assert not picture(clip([quad()], [MATTE]), behind, **culled).any()
        assert center(picture(clip([quad()], [replace(MATTE, double_sided=True)]), behind, **culled))[3] == 255


def test_a_culled_back_hides_nothing() -> None:
    """Depth is drawn first, to shade each pixel once, but not that of culled faces."""
    behind = orbit_camera(90.0, 0.0, SIZE, fov_deg=40.0, radius=2.0)
    red = replace(RED, double_sided=True)
    shown = clip([quad(0.2), quad(0.0)], [MATTE, red])
    for exact in (True, False):
        found = picture(shown, behind, cull_back_faces=True, exact_alpha=exact)
        np.testing.assert_allclose(center(found), [255, 0, 0, 255], atol=0.0)


@pytest.mark.parametrize("order", [(0, 1), (1, 0)])
def test_a_surface_modeled_twice_shows_its_own_face_on_each_side(order: tuple[int, int]) -> None:
    """As in Cycles. The two squares are split along different diagonals, so their depths are rounded differently."""
    vertices, normals, _, _ = quad()
    sides = []
    for faces, turn in ((np.array([[0, 1, 2], [0, 2, 3]]), 1.0), (np.array([[3, 1, 0], [3, 2, 1]]), -1.0)):
        sides.append((vertices, turn * normals, faces, np.zeros((2, 3, 2))))
    colors = [RED, replace(RED, base_color=(0.0, 0.0, 1.0))]
    shown = clip([sides[side] for side in order], [colors[side] for side in order])
    for azimuth, color in ((-70.0, [255, 0, 0, 255]), (75.0, [0, 0, 255, 255])):
        camera = orbit_camera(azimuth, 35.0, SIZE, fov_deg=40.0, radius=2.0)
        for image in (picture(shown, camera), traced(shown, camera).rgba):
            seen = image[image[..., 3] == 255]
            assert len(seen) > 500
            assert np.abs(seen.astype(int) - color).max() <= 1


def test_objects_cast_shadows() -> None:
    """In the light of a lamp and of the environment, as in Cycles; a surface casts none on itself."""
    side = Lights((PointLight((0.0, -20.0, 20.0), 1.0),), 0.0)
    wall, hanging, shelf = (
        quad(0.3),
        box((-0.15, -0.3, -0.1), (0.15, -0.1, 0.1)),
        box((-0.5, -0.3, -0.1), (0.5, 0.3, 0)),
    )
    alone = clip([wall], [MATTE])
    # Below the box, as the lamp stands above; and above the shelf, which hides half of the sky.
    for part, lights, rows, darker in ((hanging, side, slice(45, 49), 60), (shelf, EVEN, slice(27, 30), 8)):
        shown = clip([wall, part], [MATTE, MATTE])
        truth, image = traced(shown, lights=lights).rgba.astype(int), picture(shown, lights=lights)
        assert psnr(image, truth) > 28
        spot = (rows, slice(30, 34), 0)
        assert image[spot].mean() < picture(alone, lights=lights)[spot].mean() - darker
        assert image[spot].mean() == pytest.approx(truth[spot].mean(), abs=20)
    for angle in (10.0, 45.0, 80.0):
        lamp = Lights((PointLight((0.0, -20.0 * np.cos(np.radians(angle)), 20.0 * np.sin(np.radians(angle))), 1.5),), 0)
        flat = picture(alone, lights=lamp)
        middle = flat[20:44, 20:44, 0]
        assert np.ptp(middle) <= 8, "only distance makes a difference"


def test_a_mask_casts_shadows_with_holes_and_glass_casts_none() -> None:
    side = Lights((PointLight((0.0, -20.0, 20.0), 1.5),), 0.0)
    holes = np.full((4, 4, 4), 255, np.uint8)
    holes[..., 3] = 0
    open_mask = Material(base_color_texture=Texture(0), alpha_mode=AlphaMode.MASK)
    pane = Material(metallic=0.0, roughness=0.0, transmission=1.0)
    floor = picture(clip([quad(0.3)], [MATTE]), lights=side)
    lid = box((-0.5, -0.4, 0.3), (0.5, -0.3, 0.4))
    spot = (slice(42, 46), slice(28, 36), 0)
    for material, shades in ((MATTE, True), (open_mask, False), (pane, False)):
        found = picture(clip([quad(0.3), lid], [MATTE, material], [holes]), lights=side)
        darker = floor[spot].mean() - found[spot].mean()
        assert darker > 60 if shades else abs(darker) < 3, material


def test_a_camera_inside_still_sees() -> None:
    inside = orbit_camera(-90.0, 0.0, SIZE, fov_deg=40.0, radius=0.2)
    assert (picture(clip([box()], [MATTE]), inside)[..., 3] == 255).all()


@pytest.mark.parametrize("passes", [False, True])
def test_a_view_alone_is_that_view_of_the_set(passes: bool) -> None:
    """Also after another clip, and in another process with another number of threads."""
    shown = mixed_clip()
    settings = replace(QUICK, passes=passes)
    cameras = sample_cameras(2, "mixed", 4, SIZE)
    lights = sample_lights(2, "mixed", cameras)
    render = load_engine("raster")
    together = {(i.view, i.frame): i for i in render(shown, cameras, lights, settings)}
    assert len(together) == 8
    picture(unlit_cube())
    for view, frame in ((1, 0), (3, 1), (0, 1)):
        (alone,) = render(shown, [cameras[view]], [lights[view]], settings, [frame])
        np.testing.assert_array_equal(alone.rgba, together[view, frame].rgba)
        if passes:
            np.testing.assert_array_equal(alone.depth, together[view, frame].depth)
            np.testing.assert_array_equal(alone.normal, together[view, frame].normal)


def test_another_process_on_one_thread_without_blender_produces_the_same_bytes(tmp_path: Path) -> None:
    shown = mixed_clip()
    here = [image.rgba for image in load_engine("raster")(shown, [FRONT], [LAMP], QUICK)]
    shown.save(tmp_path / "clip.safetensors")
    script = (
        "import sys, numpy as np\nfrom pathlib import Path\nfrom helix4d.assets import Clip\n"
        "from helix4d.render import Lights, PointLight, RenderSettings, load_engine, orbit_camera\n"
        "clip = Clip.load(Path(sys.argv[1]) / 'clip.safetensors')\n"
        "camera = orbit_camera(-90.0, 0.0, 64, fov_deg=40.0, radius=2.0)\n"
        "lamp = Lights((PointLight((0.0, -30.0, 0.0), 1.0),), 0.5)\n"
        "settings = RenderSettings(image_size=64, device='cpu', threads=1)\n"
        "images = [i.rgba for i in load_engine('raster')(clip, [camera], [lamp], settings)]\n"
        "np.save(Path(sys.argv[1]) / 'images.npy', images)\n"
        "assert 'bpy' not in sys.modules\n"
    )
    root = Path(__file__).resolve().parents[2]
    subprocess.run([sys.executable, "-c", script, str(tmp_path)], check=True, cwd=root, timeout=300)
    np.testing.assert_array_equal(np.stack(here), np.load(tmp_path / "images.npy"))


def test_the_software_renderer_never_stands_in_for_a_gpu() -> None:
    from helix4d.render.raster.engine import open_device

    device = open_device("cpu")
    assert open_device("auto") is device
    with pytest.raises(ConfigError, match="device gpu: OpenGL renders on the CPU"):
        open_device("gpu")


def test_frames_without_triangles_are_transparent_and_topology_may_change() -> None:
    check_changing_clip(rasterize(changing_clip(), [FRONT, orbit_camera(0.0, 0.0, SIZE)], passes=True))


def test_a_lamp_and_the_environment_have_the_given_brightness() -> None:
    half = Material(metallic=0.0, roughness=1.0, ior=1.0, base_color=(0.5, 0.5, 0.5))
    for lights in (Lights((PointLight((0.0, -50.0, 0.0), 1.5),), 0.0), EVEN):
        found = center(picture(clip([quad()], [half]), lights=lights))
        np.testing.assert_allclose(found[:3], srgb(*[0.75 / np.pi] * 3), atol=4.0)
    tinted = Lights((), 1.5, (1.0, 0.5, 0.25))
    np.testing.assert_allclose(
        center(picture(clip([quad()], [half]), lights=tinted))[:3],
        srgb(*(0.75 / np.pi * np.array([1.0, 0.5, 0.25]))),
        atol=4.0,
    )


def test_arguments_that_do_not_match_are_refused() -> None:
    render = load_engine("raster")
    with pytest.raises(ConfigError, match="1 cameras and 2 lights"):
        render(unlit_cube(), [FRONT], [EVEN, EVEN], QUICK)
    with pytest.raises(ConfigError, match="engine 'vector'"):
        load_engine("vector")  # type: ignore[arg-type]


def test_helix4d_preview_takes_the_engine(tmp_path: Path) -> None:
    check_preview("raster", tmp_path)


def test_parts_of_an_image_are_those_of_the_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    from helix4d.render.raster import engine

    shown = clip([sphere(0.3, (-0.1, 0.1, 0.0)), box((0.1, -0.4, -0.4), (0.4, 0.0, 0.4))], [MATTE, RED])
    (whole,) = rasterize(shown, [FRONT], passes=True)
    monkeypatch.setattr(engine, "_TILE", 11)
    (parts,) = rasterize(shown, [FRONT], passes=True)
    np.testing.assert_array_equal(parts.rgba, whole.rgba)
    for name in ("depth", "normal"):  # GL interpolates them from the corner of a part
        np.testing.assert_allclose(getattr(parts, name), getattr(whole, name), atol=1e-5)


def test_the_viewport_stays_within_what_gl_allows() -> None:
    from helix4d.render.raster import engine

    device = engine.open_device("cpu")
    target = engine._Target(device.context, 4096, False, 1)
    assert target._finer * 4096 <= min(device.context.info["GL_MAX_VIEWPORT_DIMS"])
    assert engine._Target(device.context, 256, False, 1)._finer == engine.FINER
