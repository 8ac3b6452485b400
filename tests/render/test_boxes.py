"""Cycles renders the box around the silhouette: the pixels are those of the whole image."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture
from helix4d.render import (
    Camera,
    Lights,
    RenderedImage,
    RenderSettings,
    frame_loop,
    orbit_camera,
    sample_cameras,
    sample_lights,
)
from helix4d.render.cycles import engine
from helix4d.render.scene.boxes import MARGIN, Box, silhouette_box, whole_image
from tests.render.clips import clip, quad, sphere
from tests.render.measures import psnr
from tests.render.test_blender import EVEN, LAMP, MATTE, mixed_clip

SIZE = 96
QUICK = RenderSettings(image_size=SIZE, samples=4, denoise=False, device="cpu")
FAR = orbit_camera(-90.0, 0.0, SIZE, fov_deg=40.0, radius=9.0)


def render(shown: Clip, camera: Camera, settings: RenderSettings = QUICK, lights: Lights = LAMP) -> RenderedImage:
    (image,) = engine.render_views(shown, [camera], [lights], settings, [0])
    return image


@pytest.fixture
def whole(monkeypatch: pytest.MonkeyPatch) -> Callable[..., RenderedImage]:
    """`render`, but with all pixels of the image traced."""

    def render_whole(*arguments: object, **keywords: object) -> RenderedImage:
        with monkeypatch.context() as patch:
            patch.setattr(frame_loop, "silhouette_box", lambda alpha: whole_image(len(alpha)))
            return render(*arguments, **keywords)  # type: ignore[arg-type]

    return render_whole


@pytest.fixture
def boxes(monkeypatch: pytest.MonkeyPatch) -> list[Box]:
    """The boxes that Cycles is asked for, and checks that it renders just these."""
    seen: list[Box] = []

    def recorded(render: object, box: Box, size: int) -> None:
        seen.append(box)
        original(render, box, size)

    original = engine._set_border
    monkeypatch.setattr(engine, "_set_border", recorded)
    return seen


def assert_equal(a: RenderedImage, b: RenderedImage) -> None:
    np.testing.assert_array_equal(a.rgba, b.rgba)
    assert a.clipped == b.clipped
    assert (a.depth is None) == (b.depth is None)
    if a.depth is not None:
        np.testing.assert_array_equal(a.depth, b.depth)
        np.testing.assert_array_equal(a.normal, b.normal)


def small(center: tuple[float, float, float], radius: float) -> Clip:
    return clip([sphere(radius, center, 24)], [MATTE])


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("seed", [0, 7])
def test_pixels_are_those_of_the_whole_image(
    whole: Callable[..., RenderedImage], boxes: list[Box], passes: bool, seed: int
) -> None:
    """Masks, glass and one to three lamps; from near, where the silhouette is cut off, to far."""
    settings = replace(QUICK, passes=passes, seed=seed)
    cameras = [*sample_cameras(4, "boxes", 3, SIZE), orbit_camera(20.0, 10.0, SIZE, fov_deg=30.0, radius=1.2)]
    for camera, lights in zip(cameras, sample_lights(4, "boxes", cameras), strict=True):
        boxes.clear()
        cropped = render(mixed_clip(), camera, settings, lights)
        assert_equal(cropped, whole(mixed_clip(), camera, settings, lights=lights))
        assert boxes[1] == whole_image(SIZE)
        assert boxes[0] == silhouette_box(cropped.rgba[..., 3] / 255)
    assert boxes[0] == whole_image(SIZE), "the last silhouette reaches all four borders"


@pytest.mark.parametrize("corner", [(-1, -1), (-1, 1), (1, -1), (1, 1)])
@pytest.mark.parametrize("threads", [1, 2])
def test_silhouettes_at_the_border_of_the_image(
    whole: Callable[..., RenderedImage], boxes: list[Box], corner: tuple[int, int], threads: int
) -> None:
    x, z = corner
    camera = orbit_camera(-90.0, 0.0, SIZE, fov_deg=10.0, radius=5.0)  # sees 0.44 to each side
    shown = small((0.44 * x, 0.0, 0.44 * z), 0.05)
    settings = replace(QUICK, threads=threads, passes=True)
    cropped = render(shown, camera, settings)
    box = boxes[0]
    assert (box.left == 0, box.right == SIZE) == (x < 0, x > 0)
    assert (box.top == 0, box.bottom == SIZE) == (z > 0, z < 0)
    assert box.width < SIZE / 2 > box.height
    assert_equal(cropped, whole(shown, camera, replace(settings, threads=3 - threads)))


def test_silhouettes_of_one_pixel(whole: Callable[..., RenderedImage], boxes: list[Box]) -> None:
    pixel = 9.0 * 2 * np.tan(np.radians(20.0)) / SIZE
    settings = replace(QUICK, passes=True)
    for column, row in ((50, 40), (0, 0), (SIZE - 1, SIZE - 1)):
        boxes.clear()
        place = ((column + 0.5 - SIZE / 2) * pixel, 0.0, (SIZE / 2 - row - 0.5) * pixel)
        shown = small(place, 0.3 * pixel)
        image = render(shown, FAR, settings)
        assert np.argwhere(image.rgba[..., 3]).tolist() == [[row, column]]
        ends = (row - MARGIN, column - MARGIN, row + 1 + MARGIN, column + 1 + MARGIN)
        assert boxes[0] == Box(*(min(max(end, 0), SIZE) for end in ends))
        assert_equal(image, whole(shown, FAR, settings))


@pytest.mark.parametrize("passes", [False, True])
@pytest.mark.parametrize("case", ["outside the image", "transparent", "seen from its hidden back"])
def test_what_is_not_visible_is_not_rendered(
    whole: Callable[..., RenderedImage], monkeypatch: pytest.MonkeyPatch, case: str, passes: bool
) -> None:
    settings, camera = replace(QUICK, passes=passes), FAR
    shown = clip([quad()], [MATTE])
    if case == "outside the image":
        camera = orbit_camera(-90.0, 0.0, SIZE, fov_deg=1.0, radius=9.0)
        shown = small((0.4, 0.0, 0.4), 0.1)
    elif case == "transparent":
        shown = clip([quad()], [Material(alpha=0.001, alpha_mode=AlphaMode.BLEND)])
    else:
        camera, settings = orbit_camera(90.0, 0.0, SIZE, radius=4.0), replace(settings, cull_back_faces=True)
    expected = whole(shown, camera, settings)
    assert not expected.rgba.any()
    monkeypatch.setattr(engine, "_open_scene", None)
    assert_equal(render(shown, camera, settings), expected)


def test_views_without_and_with_something_visible_alternate() -> None:
    """The scene is posed for the first visible view of a frame, wherever it stands."""
    shown = mixed_clip()
    away = orbit_camera(-90.0, 0.0, SIZE, fov_deg=0.5, radius=9.0)
    frames = (small((0.4, 0.0, 0.4), 0.05).frames[0], *shown.frames)
    hidden = replace(shown, frames=frames, times=np.arange(3.0))
    cameras, lights = (away, FAR), (EVEN, LAMP)
    images = list(engine.render_views(hidden, cameras, lights, QUICK))
    assert [(image.frame, image.view) for image in images] == [(f, v) for f in range(3) for v in range(2)]
    assert [bool(image.rgba.any()) for image in images] == [False, True, True, True, True, True]
    for image in images:
        view, frame = image.view, image.frame
        (alone,) = engine.render_views(hidden, [cameras[view]], [lights[view]], QUICK, [frame])
        assert_equal(alone, image)


def test_all_pixels_are_rendered_where_alpha_is_not_known(boxes: list[Box]) -> None:
    """By request, and where the camera is too close for the rasterized alpha."""
    render(mixed_clip(), FAR, replace(QUICK, exact_alpha=False))
    inside = orbit_camera(0.0, 0.0, SIZE, fov_deg=70.0, radius=0.3)
    render(mixed_clip(), inside)
    assert boxes == [whole_image(SIZE)] * 2


def test_with_a_denoiser_the_box_changes_little(whole: Callable[..., RenderedImage]) -> None:
    """The denoiser sees less of the empty background, nothing else."""
    settings = replace(QUICK, denoise=True, samples=8)
    cropped, complete = render(mixed_clip(), FAR, settings), whole(mixed_clip(), FAR, settings)
    np.testing.assert_array_equal(cropped.rgba[..., 3], complete.rgba[..., 3])
    assert (cropped.rgba != complete.rgba).any(), "if they are equal, docs/rendering.md can say so"
    assert psnr(cropped.rgba, complete.rgba) > 32


@pytest.mark.parametrize("denoise", [False, True])
def test_a_denoised_view_alone_is_that_view_of_the_set(denoise: bool) -> None:
    """Boxes of several sizes in one scene, in any order, on any number of threads."""
    settings = replace(QUICK, denoise=denoise, passes=True)
    cameras = sample_cameras(3, "boxes", 4, SIZE)
    lights = sample_lights(3, "boxes", cameras)
    together = {image.view: image for image in engine.render_views(mixed_clip(), cameras, lights, settings, [1])}
    for view, threads in ((3, 1), (0, 2), (2, 1)):
        (alone,) = engine.render_views(
            mixed_clip(), [cameras[view]], [lights[view]], replace(settings, threads=threads), [1]
        )
        assert_equal(replace(alone, view=view), together[view])


def test_boxes() -> None:
    alpha = np.zeros((100, 80), np.float32)
    assert silhouette_box(alpha) is None
    alpha[50, 40] = 0.4 / 255
    assert silhouette_box(alpha) is None, "its byte is 0"
    alpha[50, 40] = 0.6 / 255
    assert silhouette_box(alpha) == Box(50 - MARGIN, 40 - MARGIN, 51 + MARGIN, 41 + MARGIN)
    alpha[5, 79] = 1.0
    assert silhouette_box(alpha) == Box(0, 40 - MARGIN, 51 + MARGIN, 80)
    with pytest.raises(ValueError, match="at least one pixel"):
        Box(3, 0, 3, 5)
    with pytest.raises(ValueError, match="2 x 3 pixels"):
        Box(0, 0, 2, 2).paste(np.zeros((3, 2)), 4)
    pasted = Box(1, 2, 3, 3).paste(np.ones((2, 1, 3), np.float32), 4)
    assert pasted.shape == (4, 4, 3)
    assert pasted.sum() == 6 == pasted[1:3, 2].sum()


@pytest.mark.parametrize("size", [4, 97, 1000])
def test_blender_renders_the_pixels_of_the_box_at_any_size(monkeypatch: pytest.MonkeyPatch, size: int) -> None:
    """Blender takes fractions of the image in single precision; `Box.paste` refuses another number of pixels."""
    rng = np.random.default_rng(size)
    camera = orbit_camera(-90.0, 0.0, size, fov_deg=40.0, radius=2.5)
    levels = np.full((1, 256, 4), 255, np.uint8)
    levels[0, :, 0] = np.arange(256)
    shown = clip([quad()], [Material(unlit=True, base_color_texture=Texture(0))], [levels])
    settings = replace(QUICK, image_size=size, samples=1, passes=True)
    for _ in range(3):
        top, left = (int(corner) for corner in rng.integers(0, size, 2))
        box = Box(top, left, min(top + 7, size), min(left + 40, size))
        monkeypatch.setattr(frame_loop, "silhouette_box", lambda alpha, box=box: box)
        image = render(shown, camera, settings)
        assert image.depth is not None
        rays = (np.stack(np.meshgrid(np.arange(size), np.arange(size))) + 0.5 - size / 2) / camera.focal
        inside = (np.abs(rays[:, box.top : box.bottom, box.left : box.right]) * 2.5 < 0.49).all(axis=0)
        drawn = image.depth[box.top : box.bottom, box.left : box.right]
        np.testing.assert_allclose(drawn[inside], 2.5, atol=1e-3)
        assert not image.depth[: box.top].any()
        assert not image.depth[box.bottom :].any()
