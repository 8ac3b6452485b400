"""FBX files that Blender writes show what Blender evaluates, at every frame."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from helix4d.assets import Clip, bake, check_clip
from helix4d.assets.triangles import areas

bpy = pytest.importorskip("bpy", reason="Blender is not installed (extra 'curate')")
pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")

from tests.assets.fbx.blender_scenes import FRAMES, ONE_TAKE, SCENES, cube, export, key, material  # noqa: E402

UNIT = {"unit_of_a_centimeter": 0.01}
"""Meters per unit of the scene, where it is not 1."""


@pytest.mark.parametrize("name", SCENES)
def test_every_frame_is_that_of_the_writer(name: str, tmp_path: Path) -> None:
    expected = export(name, tmp_path / "a.fbx")
    clip = bake(tmp_path / "a.fbx", FRAMES)
    check_clip(clip)
    for frame, triangles in zip(clip.frames, expected, strict=True):
        triangles = triangles * UNIT.get(name, 1.0)
        found = frame.triangles().astype(np.float64)
        diagonal = np.linalg.norm(np.ptp(triangles.reshape(-1, 3), axis=0))
        assert _distance(found.reshape(-1, 3), triangles.reshape(-1, 3)) < 1e-4 * diagonal
        assert areas(found).sum() == pytest.approx(areas(triangles).sum(), rel=1e-3)
        assert _volume(found) == pytest.approx(_volume(triangles), rel=1e-3, abs=1e-6 * diagonal**3)
        facing = np.cross(found[:, 1] - found[:, 0], found[:, 2] - found[:, 0])
        normals = frame.normals[frame.faces].mean(axis=1)
        agree = np.einsum("fi,fi->f", facing, normals)[areas(found) > 1e-6] > 0
        assert agree.all() or (name == "rigid_skin" and agree.mean() > 0.8)  # bones pull its sides apart


def test_turns_are_kept_between_the_keys(tmp_path: Path) -> None:
    export("full_turns", tmp_path / "a.fbx")
    clip = bake(tmp_path / "a.fbx", 4 * (FRAMES - 1) + 1)
    angles = [np.arctan2(frame.vertices[0, 1], frame.vertices[0, 0]) for frame in clip.frames]
    steps = np.diff(np.unwrap(angles))
    np.testing.assert_allclose(steps, 4 * np.pi / len(steps), atol=1e-4)


def test_every_action_is_a_take(tmp_path: Path) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    box = cube()
    box.animation_data_create()
    for name, end in (("run", 5), ("jump", 9)):
        box.animation_data.action = bpy.data.actions.new(name)
        key(box, "location", {1: (0, 0, 0), end: (float(end), 0, 0)})
    bpy.ops.export_scene.fbx(filepath=str(tmp_path / "a.fbx"), bake_anim_use_all_actions=True)
    for name, end in (("run", 5), ("jump", 9)):
        clip = bake(tmp_path / "a.fbx", end, clip=f"cube|{name}")
        assert clip.times[-1] - clip.times[0] == pytest.approx((end - 1) / 24)
        reached = [float(frame.vertices[:, 0].mean()) for frame in clip.frames]
        np.testing.assert_allclose(np.diff(reached), end / (end - 1), atol=1e-3)


def test_materials_colors_and_uvs_of_faces(tmp_path: Path) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    box = cube()
    red, blue = material("red", (1, 0, 0)), material("blue", (0, 0, 1))
    blue.node_tree.nodes["Principled BSDF"].inputs["Metallic"].default_value = 0.75
    blue.node_tree.nodes["Principled BSDF"].inputs["Roughness"].default_value = 0.3
    box.data.materials.append(red)
    box.data.materials.append(blue)
    for polygon in box.data.polygons:
        polygon.material_index = int(polygon.normal.z > 0.5)
    colors = box.data.color_attributes.new("tint", "BYTE_COLOR", "CORNER")
    for number, corner in enumerate(colors.data):
        corner.color_srgb = (number / 24, 0.5, 1.0, 1.0)
    image = bpy.data.images.new("checker", 8, 8)
    image.pixels = np.linspace(0, 1, 256).tolist()
    image.filepath_raw, image.file_format = str(tmp_path / "checker.png"), "PNG"
    image.save()
    tree = red.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image, node.extension = image, "EXTEND"
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Emission Color"])
    tree.nodes["Principled BSDF"].inputs["Emission Strength"].default_value = 2.0
    key(box, "location", {1: (0, 0, 0), FRAMES: (2, 0, 0)})
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, FRAMES
    bpy.ops.export_scene.fbx(filepath=str(tmp_path / "a.fbx"), path_mode="COPY", embed_textures=True)
    (tmp_path / "checker.png").unlink()
    clip = bake(tmp_path / "a.fbx", 2)
    assert not clip.warnings
    by_name = {found.name: number for number, found in enumerate(clip.materials)}
    assert clip.materials[by_name["blue"]].base_color == pytest.approx((0, 0, 1))
    assert clip.materials[by_name["blue"]].metallic == pytest.approx(0.75)
    assert clip.materials[by_name["blue"]].roughness == pytest.approx(0.3, abs=1e-3)
    assert clip.materials[by_name["red"]].emissive == pytest.approx((2, 2, 2))
    texture = clip.materials[by_name["red"]].emissive_texture
    assert texture is not None
    assert texture.wrap_u == "clamp"
    assert clip.images[texture.image].shape == (8, 8, 4)
    topology = clip.frames[0].topology
    top = clip.frames[0].triangles()[..., 2].min(axis=1) > 0.3
    assert set(topology.material_ids[top]) == {by_name["blue"]}
    assert set(topology.material_ids[~top]) == {by_name["red"]}
    assert topology.colors is not None
    reds = np.unique(np.round(topology.colors[..., 0], 3))
    expected = np.array([n / 24 for n in range(24)])
    expected = np.where(expected <= 0.04045, expected / 12.92, ((expected + 0.055) / 1.055) ** 2.4)
    assert _distance(reds[:, None], expected[:, None]) < 0.005  # stored in 8 bits
    loops = np.array([loop.uv for loop in box.data.uv_layers.active.data]) * [1, -1] + [0, 1]
    assert _distance(topology.uvs[0][~top].reshape(-1, 2), loops[np.repeat(_sides(box), 4)]) < 1e-5


def test_mapping_nodes_place_textures(tmp_path: Path) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    box = cube()
    paint = material("paint")
    tree, image = paint.node_tree, bpy.data.images.new("checker", 8, 8)
    image.filepath_raw, image.file_format = str(tmp_path / "checker.png"), "PNG"
    image.save()
    node, mapping = tree.nodes.new("ShaderNodeTexImage"), tree.nodes.new("ShaderNodeMapping")
    node.image = image
    mapping.inputs["Location"].default_value = (0.1, 0.2, 0)
    mapping.inputs["Rotation"].default_value = (0, 0, 0.5)
    mapping.inputs["Scale"].default_value = (2, 3, 1)
    tree.links.new(tree.nodes.new("ShaderNodeTexCoord").outputs["UV"], mapping.inputs["Vector"])
    tree.links.new(mapping.outputs["Vector"], node.inputs["Vector"])
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    box.data.materials.append(paint)
    key(box, "location", {1: (0, 0, 0), FRAMES: (2, 0, 0)})
    bpy.ops.export_scene.fbx(filepath=str(tmp_path / "a.fbx"), path_mode="COPY", embed_textures=True)
    texture = bake(tmp_path / "a.fbx", 2).materials[0].base_color_texture
    assert texture is not None
    c, s = np.cos(0.5), np.sin(0.5)
    for u, v in ((0.0, 0.0), (1.0, 0.0), (0.3, 0.8)):
        expected = 0.1 + c * 2 * u - s * 3 * v, 0.2 + s * 2 * u + c * 3 * v
        assert texture.matrix() @ [u, 1 - v, 1] == pytest.approx([expected[0], 1 - expected[1]], abs=1e-5)


def test_normals_are_those_of_the_file(tmp_path: Path) -> None:
    """A cube with smooth shading has one normal a vertex; a skin turns them."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    for number, smooth in enumerate((True, False)):
        box = cube(at=(0, 4.0 * number, 0))
        box.data.polygons.foreach_set("use_smooth", [smooth] * 6)
        key(box, "rotation_euler", {1: (0, 0, 0), FRAMES: (0, 0, np.pi / 2)})
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 1, FRAMES
    bpy.ops.export_scene.fbx(filepath=str(tmp_path / "a.fbx"), **ONE_TAKE)
    clip = bake(tmp_path / "a.fbx", 2)
    assert len(clip.frames[0].vertices) == 8 + 24
    first, last = clip.frames[0].normals, clip.frames[-1].normals
    np.testing.assert_allclose(last, first @ np.array([[0, 1, 0], [-1, 0, 0], [0, 0, 1]]), atol=1e-4)
    flat = first[clip.frames[0].vertices[:, 1] > 2]
    np.testing.assert_allclose(np.abs(flat).max(axis=1), 1, atol=1e-5)


def _sides(box: object) -> np.ndarray:
    return np.array([polygon.normal.z <= 0.5 for polygon in box.data.polygons])  # type: ignore[attr-defined]


def _distance(one: np.ndarray, two: np.ndarray) -> float:
    """Return the Hausdorff distance of two sets of points."""
    between = np.linalg.norm(one[:, None] - two[None], axis=2)
    return float(max(between.min(axis=1).max(), between.min(axis=0).max()))


def _volume(corners: np.ndarray) -> float:
    return float(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6)


def test_the_clip_is_a_clip(tmp_path: Path) -> None:
    """Frames of a constant topology share it, and times are the file's."""
    export("skin", tmp_path / "a.fbx")
    clip = bake(tmp_path / "a.fbx", FRAMES)
    assert isinstance(clip, Clip)
    assert len({id(frame.topology) for frame in clip.frames}) == 1
    np.testing.assert_allclose(np.diff(clip.times), 1 / 24)
