"""Clips: data shared by frames, hand-computed attributes, threads."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology, Wrap
from helix4d.voxelize import GeometryError, OVoxel, prepare_surface, voxelize_clip, voxelize_frame
from helix4d.voxelize.convert.surface import square_image
from tests.voxelize.meshes import icosphere, quad

FIELDS = ("coords", "dual_vertices", "intersected", "base_color", "metallic", "roughness", "alpha")


def make_clip(
    material: Material,
    images: tuple[np.ndarray, ...] = (),
    colors: np.ndarray | None = None,
    height: float = 0.01,
    uv_scale: float = 1.0,
) -> Clip:
    """One frame of a horizontal square whose u runs along x and whose v, glTF's, runs down along -y."""
    vertices, faces = quad(height)
    corners = vertices[faces]
    uvs = np.stack([corners[..., 0] / 0.8 + 0.5, 0.5 - corners[..., 1] / 0.8], axis=-1) * uv_scale
    topology = Topology(faces, uvs[None].astype(np.float32), np.zeros(2, np.int32), colors)
    frame = Frame(vertices, np.tile(np.float32([0, 0, 1]), (4, 1)), topology)
    return Clip("", 0, np.zeros(1), (frame,), (material,), images)


def quarters() -> np.ndarray:
    """64 x 64 RGBA: red, green over blue, white, seen with the first row on top; alpha 64 in the red, else 255."""
    image = np.zeros((64, 64, 4), np.uint8)
    image[..., 3] = 255
    image[:32, :32, 0] = 255
    image[:32, 32:, 1] = 255
    image[32:, :32, 2] = 255
    image[32:, 32:, :3] = 255
    image[:32, :32, 3] = 64
    return image


def at(ovoxel: OVoxel, x: float, y: float) -> int:
    """The voxel nearest to (x, y)."""
    centers = (ovoxel.coords + 0.5) / ovoxel.resolution - 0.5
    return int(np.argmin(np.hypot(centers[:, 0] - x, centers[:, 1] - y)))


def test_rows_of_the_image_run_down() -> None:
    clip = make_clip(Material(base_color_texture=Texture(0)), (quarters(),))
    ovoxel = voxelize_clip(clip, 32)[0]
    corners = {(-0.3, 0.3): [255, 0, 0], (0.3, 0.3): [0, 255, 0], (-0.3, -0.3): [0, 0, 255], (0.3, -0.3): [255] * 3}
    for (x, y), expected in corners.items():
        assert ovoxel.base_color[at(ovoxel, x, y)].tolist() == expected
    assert np.all(ovoxel.alpha == 255)  # OPAQUE ignores the texture's alpha
    assert np.all(ovoxel.metallic == 255)


@pytest.mark.parametrize(("mode", "red", "others"), [("BLEND", 64, 255), ("MASK", 0, 255), ("OPAQUE", 255, 255)])
def test_alpha_modes(mode: str, red: int, others: int) -> None:
    clip = make_clip(Material(base_color_texture=Texture(0), alpha_mode=AlphaMode(mode)), (quarters(),))
    ovoxel = voxelize_clip(clip, 32)[0]
    assert ovoxel.alpha[at(ovoxel, -0.3, 0.3), 0] == red
    assert ovoxel.alpha[at(ovoxel, 0.3, 0.3), 0] == others


def test_factors_multiply_texels_as_stored() -> None:
    material = Material(
        base_color=(0.5, 0.25, 1.0), metallic=0.5, roughness=0.25, metallic_roughness_texture=Texture(0),
        base_color_texture=Texture(0), alpha=0.5, alpha_mode=AlphaMode.BLEND,
    )  # fmt: skip
    ovoxel = voxelize_clip(make_clip(material, (quarters(),)), 32)[0]
    white = at(ovoxel, 0.3, -0.3)
    assert ovoxel.base_color[white].tolist() == [127, 63, 255]
    assert ovoxel.metallic[white, 0] == 127
    assert ovoxel.roughness[white, 0] == 63
    assert ovoxel.alpha[white, 0] == 127
    assert ovoxel.metallic[at(ovoxel, 0.3, 0.3), 0] == 0  # metallic is blue
    assert ovoxel.roughness[at(ovoxel, 0.3, 0.3), 0] == 63  # roughness is green


@pytest.mark.parametrize(
    ("wrap", "expected"), [(Wrap.REPEAT, [255, 0, 0]), (Wrap.CLAMP, [255] * 3), (Wrap.MIRROR, [255] * 3)]
)
def test_wraps_and_transforms(wrap: Wrap, expected: list[int]) -> None:
    texture = Texture(0, wrap_u=wrap, wrap_v=wrap, offset=(1.0, 1.0))
    ovoxel = voxelize_clip(make_clip(Material(base_color_texture=texture), (quarters(),)), 32)[0]
    assert ovoxel.base_color[at(ovoxel, -0.3, 0.3)].tolist() == expected


@pytest.mark.parametrize(("width", "height"), [(4, 4), (5, 3), (1, 7)])
@pytest.mark.parametrize("wrap", [Wrap.REPEAT, Wrap.MIRROR])
def test_nearest_textures_keep_their_texels(width: int, height: int, wrap: Wrap) -> None:
    image = np.random.default_rng(width).integers(0, 256, (height, width, 4), np.uint8)
    texture = Texture(0, wrap_u=wrap, wrap_v=wrap, offset=(1.0, 1.0), nearest=True)
    material = Material(base_color_texture=texture, metallic_roughness_texture=texture)
    ovoxel = voxelize_clip(make_clip(material, (image,)), 64)[0]
    x, y = ((ovoxel.coords[:, :2] + 0.5) / 64 - 0.5).T
    place = np.stack([(x / 0.8 + 0.5) * width, (0.5 - y / 0.8) * height], axis=1)
    # Inside the square, and more than a voxel or two away from the borders of texels.
    inside = (np.abs(place - np.rint(place)) > 0.25).all(axis=1) & (np.abs(x) < 0.4) & (np.abs(y) < 0.4)
    column, row = place[inside].astype(int).T
    if wrap is Wrap.MIRROR:
        column, row = width - 1 - column, height - 1 - row
    assert inside.sum() > 500
    np.testing.assert_array_equal(ovoxel.base_color[inside], image[row, column, :3])
    np.testing.assert_array_equal(ovoxel.metallic[inside, 0], image[row, column, 2])


def test_one_image_may_be_read_with_both_filters() -> None:
    image = np.zeros((2, 2, 4), np.uint8)
    image[:, 1] = 255
    material = Material(base_color_texture=Texture(0), metallic_roughness_texture=Texture(0, nearest=True))
    ovoxel = voxelize_clip(make_clip(material, (image,)), 64)[0]
    assert set(np.unique(ovoxel.metallic)) == {0, 255}
    assert len(np.unique(ovoxel.base_color)) > 20


def test_a_finer_texture_than_voxels_is_averaged() -> None:
    board = np.zeros((256, 256, 4), np.uint8)
    board[::2, ::2, :3] = 255
    board[1::2, 1::2, :3] = 255
    ovoxel = voxelize_clip(make_clip(Material(base_color_texture=Texture(0)), (board,)), 16)[0]
    assert np.all(np.abs(ovoxel.base_color.astype(int) - 127) <= 1)


def test_colors_of_corners_multiply() -> None:
    colors = np.full((2, 3, 4), 0.5, np.float32)
    material = Material(base_color=(1.0, 0.5, 0.0), alpha_mode=AlphaMode.BLEND)
    ovoxel = voxelize_clip(make_clip(material, colors=colors), 16)[0]
    assert ovoxel.base_color[0].tolist() == [127, 63, 0]
    assert ovoxel.alpha[0, 0] == 127


def test_images_become_square_powers_of_two() -> None:
    flat = np.full((3, 5, 4), (10, 20, 30, 0), np.uint8)
    square = square_image(flat)
    assert square.shape == (8, 8, 4)
    assert np.all(square == flat[0, 0])  # color survives where alpha is 0
    assert square_image(np.zeros((1, 1, 4), np.uint8)).shape == (1, 1, 4)
    assert square_image(np.zeros((1, 4000, 4), np.uint8)).shape == (2048, 2048, 4)


def test_neither_threads_nor_the_memory_of_earlier_frames_change_anything() -> None:
    vertices, faces = icosphere(3)
    uvs = (vertices[faces][..., :2] + 0.5)[None].astype(np.float32)
    topology = Topology(faces, uvs, np.zeros(len(faces), np.int32))
    normals = (vertices / 0.45).astype(np.float32)
    scales = np.array([0.9, 1.0, 0.2, 1.1, 0.6], np.float32)  # smaller and larger than the frame before
    frames = tuple(Frame(vertices * scale, normals, topology) for scale in scales)
    material = Material(base_color_texture=Texture(0))
    clip = Clip("", 0, np.arange(5.0), frames, (material,), (quarters(),))
    alone = voxelize_clip(clip, 64)
    together = voxelize_clip(clip, 64, threads=2)
    surface = prepare_surface(clip)
    assert len(alone[1]) > 5000
    for one, two, frame in zip(alone, together, frames, strict=True):
        three = voxelize_frame(frame, surface, 64)
        for name in FIELDS:
            assert getattr(one, name).tobytes() == getattr(two, name).tobytes() == getattr(three, name).tobytes()


def test_frames_may_be_empty_or_differ_in_topology() -> None:
    clip = make_clip(Material())
    nothing = Topology(np.zeros((0, 3), np.int32), np.zeros((0, 0, 3, 2), np.float32), np.zeros(0, np.int32))
    zero = np.zeros((0, 3), np.float32)
    clip = replace(clip, times=np.zeros(2), frames=(*clip.frames, Frame(zero, zero, nothing)))
    full, empty = voxelize_clip(clip, 16)
    assert len(full) > 0
    assert len(empty) == 0
    assert empty.alpha.shape == (0, 1)


def test_an_error_names_the_face_of_the_file() -> None:
    clip = make_clip(Material())
    vertices = np.array([[0.4, 0.4, 0.4], [0.45, 0.4, 0.4], [0.4, 0.45, 0.4], [-0.4, -0.4, -0.6]], np.float32)
    faces = np.array([[0, 1, 2], [3, 1, 2]], np.int32)
    topology = replace(clip.frames[0].topology, faces=faces)
    for faces_order in (topology, replace(topology, faces=faces[::-1].copy())):
        frame = Frame(vertices, np.zeros_like(vertices), faces_order)
        bad = int(np.flatnonzero((faces_order.faces == 3).any(axis=1))[0])
        with pytest.raises(GeometryError, match=f"face {bad} "):
            voxelize_clip(replace(clip, frames=(frame,)), 16)


def test_invalid_clips_are_refused() -> None:
    clip = make_clip(Material(base_color_texture=Texture(3)), (quarters(),))
    with pytest.raises(GeometryError, match="image 3"):
        prepare_surface(clip)
    with pytest.raises(GeometryError, match="UV set 1"):
        prepare_surface(make_clip(Material(base_color_texture=Texture(0, uv_set=1)), (quarters(),)))
    with pytest.raises(GeometryError, match="not part of the clip"):
        voxelize_frame(make_clip(Material()).frames[0], prepare_surface(make_clip(Material())), 16)
    with pytest.raises(ValueError, match="threads"):
        voxelize_clip(make_clip(Material()), 16, threads=0)
