"""FBX files, exported with Blender by the tests."""

from __future__ import annotations

from pathlib import Path

import bpy
import numpy as np
import pytest

from helix4d.assets import check_clip, motion, validate
from helix4d.assets.triangles import areas
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import tetrahedron
from tests.assets.in_process import bake, bake_clips, list_clips


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A textured cube that moves by 3 along x and rotates by 90° about z in one second."""
    folder = tmp_path_factory.mktemp("fbx")
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = 30
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    image = bpy.data.images.new("checker", 8, 4)
    image.pixels = np.tile([0.0, 1.0, 0.0, 1.0], 32).tolist()
    image.filepath_raw, image.file_format = str(folder / "checker.png"), "PNG"
    image.save()
    material = bpy.data.materials.new("green")
    material.use_nodes = True
    tree = material.node_tree
    node = tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    tree.links.new(node.outputs["Color"], tree.nodes["Principled BSDF"].inputs["Base Color"])
    cube.data.materials.append(material)
    for frame, x, turn in ((0, 0.0, 0.0), (30, 3.0, np.pi / 2)):
        cube.location, cube.rotation_euler = (x, 0, 0), (0, 0, turn)
        cube.keyframe_insert("location", frame=frame)
        cube.keyframe_insert("rotation_euler", frame=frame)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, 30
    path = folder / "cube.fbx"
    bpy.ops.export_scene.fbx(filepath=str(path), path_mode="COPY", embed_textures=True, bake_anim_simplify_factor=0)
    (folder / "checker.png").unlink()
    return path


def test_an_animated_textured_cube_is_baked(exported: Path) -> None:
    validate(exported)
    (info,) = list_clips(exported)[:1]
    assert info.end - info.start == pytest.approx(1.0)
    clip = bake(exported, frames=5)
    check_clip(clip)
    np.testing.assert_allclose(clip.frames[0].triangles().reshape(-1, 3).min(axis=0), [-1, -1, -1], atol=1e-4)
    np.testing.assert_allclose(clip.frames[-1].triangles().reshape(-1, 3).max(axis=0), [4, 1, 1], atol=1e-4)
    for frame in clip.frames:
        corners = frame.triangles().astype(np.float64)
        assert areas(corners).sum() == pytest.approx(24, rel=1e-4)
        assert np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) / 6 == pytest.approx(8)
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=1), 1, atol=1e-4)
        assert frame.topology is clip.frames[0].topology
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert clip.images[texture.image].shape == (4, 8, 4)
    assert clip.images[texture.image][0, 0].tolist() == [0, 255, 0, 255]
    assert motion(clip) > 0.3


def test_every_action_is_a_clip_and_equals_that_of_the_original_gltf(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [3, 0, 0]], animation=0)
    turn = [0, np.sin(0.15), 0, np.cos(0.15)]  # small: Blender interpolates quaternions component by component
    builder.channel(0, "rotation", [0, 2], [[0, 0, 0, 1], turn], animation=1)
    builder.channel(0, "translation", [0, 2], [[0, 0, 0], [0, 1, 0]], animation=1)
    source = builder.write(tmp_path)
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.import_scene.gltf(filepath=str(source))
    path = tmp_path / "two.fbx"
    bpy.ops.export_scene.fbx(filepath=str(path), bake_anim_simplify_factor=0)
    ours, theirs = bake_clips(source, frames=5), bake_clips(path, frames=5)
    assert len(theirs) == 2
    for clip in theirs:
        original = next(candidate for candidate in ours if candidate.name in clip.name)
        assert clip.times[-1] - clip.times[0] == pytest.approx(original.times[-1], abs=1e-3)
        for frame, expected in zip(clip.frames, original.frames, strict=True):
            np.testing.assert_allclose(_sorted(frame.triangles()), _sorted(expected.triangles()), atol=0.01)


def _sorted(triangles: np.ndarray) -> np.ndarray:
    centers = triangles.mean(axis=1)
    return centers[np.lexsort(np.round(centers, 1).T)]


def test_files_that_are_not_fbx_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "a.fbx"
    for data, code in (
        (b"", ReasonCode.EMPTY_FILE),
        (b"; FBX 7.3.0 project file", ReasonCode.NOT_GLTF),
        (b"Kaydara FBX Binary  \x00\x1a\x00\xe8\x1c\x00\x00" + b"\xff" * 200, ReasonCode.CORRUPT_FILE),
    ):
        path.write_bytes(data)
        with pytest.raises(AssetError) as caught:
            bake(path)
        assert caught.value.code is code
