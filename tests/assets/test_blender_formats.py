"""Files of every format that Blender writes, exported with Blender by the tests."""

from __future__ import annotations

import shutil
import zipfile
from pathlib import Path

import bpy
import numpy as np
import pytest

from helix4d.assets import check_clip, content_hash, validate
from helix4d.assets.triangles import areas
from helix4d.core import AssetError, ReasonCode
from tests.assets.in_process import bake, bake_clips, list_clips

GENERATORS = {
    **dict.fromkeys(("cube.abc", "cube.blend"), "importer"),
    **dict.fromkeys(("cube.usda", "cube.usdc", "cube.usdz"), "usd-core"),
    "cube.dae": "Blender 4.2",
}
"""What `Clip.extras` names as the origin, by file."""


def empty(fps: int = 24) -> None:
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.context.scene.render.fps = fps


@pytest.fixture(scope="module")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of exports of a green textured cube that moves linearly by 3 along x in one second, at 24 frames/s."""
    folder = tmp_path_factory.mktemp("formats")
    empty()
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    image = bpy.data.images.new("checker", 8, 4)
    image.pixels = np.tile([0.0, 1.0, 0.0, 1.0], 32).tolist()
    image.filepath_raw, image.file_format = str(folder / "checker.png"), "PNG"
    image.save()
    material = bpy.data.materials.new("green")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    cube.data.materials.append(material)
    for frame, x in ((0, 0.0), (24, 3.0)):
        cube.location = (x, 0, 0)
        cube.keyframe_insert("location", frame=frame)
    for curve in cube.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    scene = bpy.context.scene
    scene.frame_start, scene.frame_end = 0, 24
    bpy.ops.wm.collada_export(filepath=str(folder / "cube.dae"), include_animations=True)
    bpy.ops.wm.alembic_export(filepath=str(folder / "cube.abc"), as_background_job=False, start=0, end=24)
    for suffix in ("usda", "usdc", "usdz"):
        bpy.ops.wm.usd_export(filepath=str(folder / f"cube.{suffix}"), export_animation=True)
    (folder / "numbered").mkdir()
    for number, frame in enumerate(range(0, 25, 6)):
        scene.frame_set(frame)
        bpy.ops.wm.obj_export(filepath=str(folder / "numbered" / f"cube_{number:03d}.obj"), path_mode="COPY")
    scene.frame_set(0)
    bpy.ops.file.pack_all()
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "cube.blend"))
    return folder


@pytest.mark.parametrize("name", GENERATORS)
def test_a_moving_cube_is_baked(exported: Path, name: str) -> None:
    path = exported / name
    validate(path)
    (info,) = list_clips(path)
    assert info.end - info.start == pytest.approx(1.0, abs=0.01)
    clip = bake(path, frames=5)
    check_clip(clip)
    for number, frame in enumerate(clip.frames):
        corners = frame.triangles().reshape(-1, 3)
        np.testing.assert_allclose(corners.min(axis=0), [0.75 * number - 1, -1, -1], atol=0.02)
        np.testing.assert_allclose(corners.max(axis=0), [0.75 * number + 1, 1, 1], atol=0.02)
        assert areas(frame.triangles().astype(np.float64)).sum() == pytest.approx(24, rel=1e-4)
        np.testing.assert_allclose(np.linalg.norm(frame.normals, axis=1), 1, atol=1e-3)
    assert GENERATORS[name] in clip.extras["generator"]
    if name != "cube.abc":  # Alembic has no materials
        texture = clip.materials[0].base_color_texture
        assert texture is not None, clip.warnings
        assert clip.images[texture.image][0, 0].tolist() == [0, 255, 0, 255]


def test_numbered_obj_files_in_a_folder_or_zip_are_frames(exported: Path, tmp_path: Path) -> None:
    folder = tmp_path / "numbered"
    shutil.copytree(exported / "numbered", folder)
    (folder / "notes.txt").write_text("x")
    clip = bake(folder, frames=5)
    check_clip(clip)
    assert clip.times[-1] == pytest.approx(4 / 24)
    for number, frame in enumerate(clip.frames):
        corners = frame.triangles().reshape(-1, 3)
        np.testing.assert_allclose(corners.max(axis=0), [1.5 * number / 2 + 1, 1, 1], atol=1e-4)
    texture = clip.materials[0].base_color_texture
    assert texture is not None, clip.warnings
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        for path in folder.iterdir():
            archive.write(path, f"deep/er/{path.name}")
    zipped = bake(tmp_path / "a.zip", frames=5)
    for one, two in zip(clip.frames, zipped.frames, strict=True):
        np.testing.assert_array_equal(one.triangles(), two.triangles())
    before = content_hash(folder)
    (folder / "cube_002.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nv 0 0 1\nf 1 2 3\nf 1 2 4\n")
    assert content_hash(folder) != before
    assert [len(frame.faces) for frame in bake(folder, frames=5).frames] == [12, 12, 2, 12, 12]
    (folder / "cube_000.obj").write_text("v 0 0 0\n")
    with pytest.raises(AssetError) as caught:
        bake(folder)
    assert caught.value.code is ReasonCode.NO_MESH
    for extra in ("cube_001.obj", "cube_003.obj", "cube_004.obj", "cube_002.obj"):
        (folder / extra).unlink()
    with pytest.raises(AssetError, match="numbered"):
        bake(folder)


def test_shape_keys_are_baked(tmp_path: Path) -> None:
    empty()
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    cube.shape_key_add(name="Basis")
    tall = cube.shape_key_add(name="tall")
    for point in tall.data:
        point.co.z *= 3
    for frame, value in ((0, 0.0), (24, 1.0)):
        tall.value = value
        tall.keyframe_insert("value", frame=frame)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, 24
    bpy.ops.wm.alembic_export(filepath=str(tmp_path / "a.abc"), as_background_job=False, start=0, end=24)
    bpy.ops.wm.usd_export(filepath=str(tmp_path / "a.usdc"), export_animation=True)
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    for name in ("a.abc", "a.usdc", "a.blend"):
        heights = [float(np.ptp(frame.triangles()[..., 2])) for frame in bake(tmp_path / name, frames=2).frames]
        np.testing.assert_allclose(heights, [2, 6], atol=0.05)


def test_static_files_have_no_animation(tmp_path: Path) -> None:
    empty()
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.ops.wm.collada_export(filepath=str(tmp_path / "a.dae"))
    bpy.ops.wm.alembic_export(filepath=str(tmp_path / "a.abc"), as_background_job=False, start=1, end=1)
    bpy.ops.wm.usd_export(filepath=str(tmp_path / "a.usdc"))
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    for name in ("a.dae", "a.abc", "a.usdc", "a.blend"):
        assert list_clips(tmp_path / name) == []
        with pytest.raises(AssetError) as caught:
            bake_clips(tmp_path / name)
        assert caught.value.code is ReasonCode.NO_ANIMATION


def test_scripts_in_a_blend_file_are_never_run(tmp_path: Path) -> None:
    empty()
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    text = bpy.data.texts.new("run.py")
    text.write(f"open({str(tmp_path / 'script ran')!r}, 'w')")
    text.use_module = True
    for axis, expression in enumerate(("frame / 24", f"len([open({str(tmp_path / 'driver ran')!r}, 'w')])")):
        cube.driver_add("location", axis).driver.expression = expression
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, 24
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "a.blend"))
    for path in tmp_path.glob("* ran"):
        path.unlink()
    clip = bake(tmp_path / "a.blend", frames=2)
    assert float(clip.frames[-1].triangles()[..., 0].max()) == pytest.approx(2.0)  # harmless drivers work
    assert not list(tmp_path.glob("* ran"))


def test_a_blend_file_must_not_link_to_files_outside_its_folder(tmp_path: Path) -> None:
    inside = tmp_path / "asset"
    inside.mkdir()
    empty()
    bpy.ops.mesh.primitive_cube_add(size=2)
    bpy.context.object.name = "Shared"
    bpy.ops.wm.save_as_mainfile(filepath=str(tmp_path / "library.blend"))
    shutil.copy(tmp_path / "library.blend", inside / "library.blend")
    for library, code in ((tmp_path, ReasonCode.URI_OUTSIDE_ASSET), (inside, ReasonCode.NO_ANIMATION)):
        empty()
        with bpy.data.libraries.load(str(library / "library.blend"), link=True) as (_, into):
            into.objects = ["Shared"]
        bpy.context.scene.collection.objects.link(into.objects[0])
        bpy.ops.wm.save_as_mainfile(filepath=str(inside / "a.blend"))
        with pytest.raises(AssetError) as caught:
            bake(inside / "a.blend")
        assert caught.value.code is code


@pytest.mark.parametrize(
    ("name", "data", "code"),
    [
        ("a.abc", b"Ogawa and nothing", ReasonCode.CORRUPT_FILE),
        ("a.abc", b"nothing", ReasonCode.NOT_GLTF),
        ("a.usda", b"#usda 1.0\n def nothing {{", ReasonCode.CORRUPT_FILE),
        ("a.usdc", b"PXR-USDC and nothing", ReasonCode.CORRUPT_FILE),
        ("a.usd", b"nothing", ReasonCode.NOT_GLTF),
        ("a.blend", b"BLENDER and nothing", ReasonCode.CORRUPT_FILE),
        ("a.blend", b"nothing", ReasonCode.NOT_GLTF),
        ("a.usdz", b"nothing", ReasonCode.INVALID_ARCHIVE),
    ],
)
def test_broken_files_are_refused(tmp_path: Path, name: str, data: bytes, code: ReasonCode) -> None:
    (tmp_path / name).write_bytes(data)
    with pytest.raises(AssetError) as caught:
        bake(tmp_path / name)
    assert caught.value.code is code
