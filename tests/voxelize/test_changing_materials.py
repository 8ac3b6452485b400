"""Voxels of materials that change from frame to frame, and emission that is added to base colors."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material, Texture, Topology
from helix4d.voxelize import GeometryError, OVoxel, prepare_surface, voxelize_clip
from helix4d.voxelize.convert.emission import add_emission
from tests.voxelize.meshes import icosphere
from tests.voxelize.test_frames import FIELDS, at, make_clip, quarters

RESOLUTION = 32
BLACK = (0.0, 0.0, 0.0)


def _srgb(linear: float) -> float:
    """The byte of a linear value, before rounding (IEC 61966-2-1)."""
    return 255 * (12.92 * linear if linear <= 0.0031308 else 1.055 * linear ** (1 / 2.4) - 0.055)


def _decoded(byte: float) -> float:
    return float(((byte / 255 + 0.055) / 1.055) ** 2.4) if byte / 255 > 0.04045 else byte / 255 / 12.92


def _over_time(materials: list[Material], moves: bool = False) -> Clip:
    """A clip of one material per frame; the square rises by 1/32 per frame if it moves."""
    clip = make_clip(materials[0])
    frames = []
    for number in range(len(materials)):
        first = clip.frames[0]
        ids = np.full(2, number, np.int32)
        vertices = first.vertices + np.float32([0, 0, number / 32 if moves else 0])
        frames.append(replace(first, vertices=vertices, topology=replace(first.topology, material_ids=ids)))
    return replace(clip, times=np.arange(len(frames), dtype=float), frames=tuple(frames), materials=tuple(materials))


def _same(one: OVoxel, two: OVoxel) -> bool:
    return all(np.array_equal(getattr(one, name), getattr(two, name)) for name in FIELDS)


def test_every_frame_has_its_own_attributes() -> None:
    fading = [Material(alpha_mode=AlphaMode.BLEND, alpha=alpha, metallic=0.0) for alpha in (0.2, 0.6, 1.0)]
    ovoxels = voxelize_clip(_over_time(fading), RESOLUTION, device="cpu")
    assert [np.unique(ovoxel.alpha).tolist() for ovoxel in ovoxels] == [[51], [153], [255]]
    colors = [Material(base_color=(value, 0.0, 1.0), roughness=1 - value) for value in (0.0, 0.4, 0.8)]
    ovoxels = voxelize_clip(_over_time(colors), RESOLUTION, device="cpu")
    assert [ovoxel.base_color[0].tolist() for ovoxel in ovoxels] == [[0, 0, 255], [102, 0, 255], [204, 0, 255]]
    assert [int(ovoxel.roughness[0, 0]) for ovoxel in ovoxels] == [255, 153, 51]


def test_frames_equal_clips_of_one_material() -> None:
    """Also where arrays are equal, but not the same objects, as in a clip that was saved."""
    materials = [Material(base_color=(value, value, 0.0)) for value in (0.2, 0.5, 0.8)]
    clip = _over_time(materials, moves=True)
    copied = [
        replace(f, topology=Topology(f.faces.copy(), f.topology.uvs.copy(), f.topology.material_ids))
        for f in clip.frames
    ]
    shown = voxelize_clip(clip, RESOLUTION, device="cpu")
    loaded = voxelize_clip(replace(clip, frames=tuple(copied)), RESOLUTION, device="cpu")
    for number, material in enumerate(materials):
        frames = tuple(replace(f, topology=make_clip(material).frames[0].topology) for f in clip.frames)
        shared = tuple(replace(f, topology=frames[0].topology) for f in frames)
        alone = voxelize_clip(replace(clip, frames=shared, materials=(material,)), RESOLUTION, device="cpu")[number]
        assert _same(shown[number], alone)
        assert _same(loaded[number], alone)


def test_boundaries_are_those_of_all_frames_together() -> None:
    """Two halves that touch in one frame only are not welded there, whatever their materials do."""
    vertices, faces = icosphere(1, 0.4)
    split = np.concatenate([vertices, vertices + np.float32([0.05, 0, 0])])
    both = np.concatenate([faces[::2], faces[1::2] + len(vertices)]).astype(np.int32)
    touching = np.concatenate([vertices, vertices])
    ids = np.zeros(len(both), np.int32)
    topology = Topology(both, np.zeros((0, len(both), 3, 2), np.float32), ids)
    other = replace(topology, material_ids=ids + np.int32(1))
    base = make_clip(Material())
    normals = np.zeros_like(split)
    frame = replace(base.frames[0], vertices=touching, normals=normals, topology=topology)
    apart = replace(frame, vertices=split)
    still = replace(base, times=np.arange(2.0), frames=(frame, apart))
    changing = replace(
        still, frames=(frame, replace(apart, topology=other)), materials=(Material(), Material(metallic=0.0))
    )
    for one, two in zip(*(voxelize_clip(clip, RESOLUTION, device="cpu") for clip in (still, changing)), strict=True):
        assert np.array_equal(one.dual_vertices, two.dual_vertices)


def test_outlines_are_left_out_whatever_they_look_like() -> None:
    materials = [Material(base_color=(value, 0.0, 0.0), outline=True) for value in (0.1, 0.9)]
    assert [len(ovoxel) for ovoxel in voxelize_clip(_over_time(materials), RESOLUTION, device="cpu")] == [0, 0]


# Emission


def test_emission_is_ignored_unless_it_is_asked_for() -> None:
    clip = make_clip(Material(base_color=BLACK, emissive=(1.0, 1.0, 1.0)))
    assert not voxelize_clip(clip, RESOLUTION, device="cpu")[0].base_color.any()


def test_emission_is_added_in_linear_light() -> None:
    material = Material(base_color=(0.5, 0.2, 1.0), metallic=0.0, emissive=(0.25, 0.0, 0.75))
    ignored, added = (
        voxelize_clip(make_clip(material), RESOLUTION, device="cpu", emissive=emissive)[0]
        for emissive in ("ignore", "add")
    )
    red = _srgb(_decoded(int(ignored.base_color[0, 0])) + _decoded(round(_srgb(0.25))))
    assert added.base_color[0].tolist() == [round(red), ignored.base_color[0, 1], 255]
    assert np.unique(added.base_color, axis=0).shape == (1, 3)
    for name in FIELDS:
        assert name == "base_color" or np.array_equal(getattr(ignored, name), getattr(added, name))


def test_a_black_surface_shows_the_color_that_its_picture_has() -> None:
    for factor in (0.001, 0.02, 0.3, 0.9, 5.0):
        clip = make_clip(Material(base_color=BLACK, emissive=(factor, 0.0, 0.0)))
        (ovoxel,) = voxelize_clip(clip, RESOLUTION, device="cpu", emissive="add")
        assert ovoxel.base_color[0].tolist() == [round(_srgb(min(factor, 1.0))), 0, 0]


def test_the_texture_and_strength_of_emission() -> None:
    image = quarters()
    image[:32, :32, :3] = 128, 0, 0
    material = Material(
        base_color=BLACK, base_color_texture=Texture(0), emissive=(2.0, 0.5, 1.0), emissive_texture=Texture(0)
    )
    (ovoxel,) = voxelize_clip(make_clip(material, (image,)), RESOLUTION, device="cpu", emissive="add")
    expected = {
        (-0.3, 0.3): [round(_srgb(2 * _decoded(128))), 0, 0],
        (0.3, 0.3): [0, round(_srgb(0.5)), 0],
        (-0.3, -0.3): [0, 0, 255],
        (0.3, -0.3): [255, round(_srgb(0.5)), 255],
    }
    for (x, y), color in expected.items():
        assert ovoxel.base_color[at(ovoxel, x, y)].tolist() == color


def test_the_emissive_texture_has_its_own_transform() -> None:
    shifted = Texture(0, offset=(0.5, 0.0))
    material = Material(base_color=BLACK, emissive=(1.0, 1.0, 1.0), emissive_texture=shifted)
    (ovoxel,) = voxelize_clip(make_clip(material, (quarters(),)), RESOLUTION, device="cpu", emissive="add")
    assert ovoxel.base_color[at(ovoxel, -0.2, 0.2)].tolist() == [0, 255, 0]
    assert ovoxel.base_color[at(ovoxel, 0.2, 0.2)].tolist() == [255, 0, 0]


def test_vertex_colors_and_unlit_materials_do_not_emit() -> None:
    glowing = Material(base_color=BLACK, emissive=(1.0, 1.0, 1.0))
    dark = np.zeros((2, 3, 4), np.float32)
    (ovoxel,) = voxelize_clip(make_clip(glowing, colors=dark), RESOLUTION, device="cpu", emissive="add")
    assert ovoxel.base_color.min() == 255
    (unlit,) = voxelize_clip(make_clip(replace(glowing, unlit=True)), RESOLUTION, device="cpu", emissive="add")
    assert not unlit.base_color.any()


def test_a_glow_grows_over_the_frames() -> None:
    materials = [Material(base_color=BLACK, emissive=(value, value, 0.0)) for value in (0.0, 0.2, 1.0)]
    clip = _over_time(materials)
    for threads in (1, 2):
        ovoxels = voxelize_clip(clip, RESOLUTION, threads, device="cpu", emissive="add")
        assert [int(ovoxel.base_color[0, 0]) for ovoxel in ovoxels] == [0, round(_srgb(0.2)), 255]


def test_adding_no_emission_changes_nothing() -> None:
    base = np.random.default_rng(0).integers(0, 256, (256, 3), np.uint8)
    assert np.array_equal(add_emission(base, np.zeros_like(base)), base)
    (ignored,) = voxelize_clip(make_clip(Material()), RESOLUTION, device="cpu")
    (added,) = voxelize_clip(make_clip(Material()), RESOLUTION, device="cpu", emissive="add")
    assert _same(ignored, added)


def test_wrong_arguments_are_refused() -> None:
    with pytest.raises(ValueError, match="emissive 'both': must be ignore or add"):
        prepare_surface(make_clip(Material()), "both")  # type: ignore[arg-type]
    missing = make_clip(Material(emissive=(1.0, 1.0, 1.0), emissive_texture=Texture(3)))
    prepare_surface(missing)
    with pytest.raises(GeometryError, match="uses image 3"):
        prepare_surface(missing, "add")
