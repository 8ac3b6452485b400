"""Blender evaluates nothing that reads or writes outside an asset's folder."""

from __future__ import annotations

import gzip
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest
import zstandard

from helix4d.assets.blender.blend_file import linked_files
from helix4d.assets.samples import SAMPLES
from helix4d.core import AssetError, ReasonCode
from tests.assets.in_process import bake
from tests.curation.file_watch import FolderWatch


@pytest.fixture
def folders(tmp_path: Path) -> tuple[Path, Path]:
    """The asset's folder, and one outside it."""
    inside, outside = tmp_path / "asset", tmp_path / "outside"
    inside.mkdir()
    outside.mkdir()
    return inside, outside


def moving_cube() -> Any:
    """An empty scene with a cube that moves for a second."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    for frame, x in ((0, 0.0), (24, 3.0)):
        cube.location = (x, 0, 0)
        cube.keyframe_insert("location", frame=frame)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, 24
    return cube


def save(folder: Path) -> Path:
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "a.blend"))
    return folder / "a.blend"


def image_in(folder: Path) -> Any:
    image = bpy.data.images.new("noise", 4, 4)
    image.pixels = np.linspace(0, 1, 64).tolist()
    image.filepath_raw, image.file_format = str(folder / "noise.png"), "PNG"
    image.save()
    return bpy.data.images.load(str(folder / "noise.png"))


def displaced(cube: Any, folder: Path) -> None:
    texture = bpy.data.textures.new("bumps", "IMAGE")
    texture.image = image_in(folder)
    cube.modifiers.new("displace", "DISPLACE").texture = texture


def fluid(cube: Any, folder: Path) -> None:
    modifier = cube.modifiers.new("fluid", "FLUID")
    modifier.fluid_type = "DOMAIN"
    settings = modifier.domain_settings
    settings.cache_type, settings.resolution_max = "REPLAY", 8
    settings.cache_directory = str(folder)
    settings.export_manta_script = True


def mesh_cache(cube: Any, folder: Path) -> None:
    modifier = cube.modifiers.new("cache", "MESH_CACHE")
    modifier.cache_format, modifier.filepath = "PC2", str(folder / "a.pc2")


def ocean(cube: Any, folder: Path) -> None:
    cube.modifiers.new("ocean", "OCEAN").filepath = str(folder)


def dynamic_paint(cube: Any, folder: Path) -> None:
    cube.modifiers.new("paint", "DYNAMIC_PAINT").ui_type = "CANVAS"


def cloth_on_disk(cube: Any, folder: Path) -> None:
    save(folder.parent / "asset")  # Blender allows it in saved files only
    cube.modifiers.new("cloth", "CLOTH").point_cache.use_disk_cache = True


def particles_elsewhere(cube: Any, folder: Path) -> None:
    cube.modifiers.new("particles", "PARTICLE_SYSTEM")
    cache = cube.particle_systems[0].point_cache
    cache.use_external, cache.filepath = True, str(folder)


def baked_nodes(cube: Any, folder: Path) -> None:
    modifier = cube.modifiers.new("nodes", "NODES")
    modifier.node_group = bpy.data.node_groups.new("nothing", "GeometryNodeTree")
    modifier.bake_directory = str(folder)


def volume(cube: Any, folder: Path) -> None:
    data = bpy.data.volumes.new("smoke")
    data.filepath = str(folder / "smoke.vdb")
    bpy.context.scene.collection.objects.link(bpy.data.objects.new("smoke", data))


@pytest.mark.parametrize(
    ("arm", "message"),
    [
        (fluid, r"\(FLUID\) of object 'Cube' reads or writes files"),
        (mesh_cache, r"\(MESH_CACHE\)"),
        (ocean, r"\(OCEAN\)"),
        (dynamic_paint, r"\(DYNAMIC_PAINT\)"),
        (cloth_on_disk, "a simulation cache on disk"),
        (particles_elsewhere, "a simulation cache on disk"),
        (baked_nodes, "reads baked data from disk"),
        (displaced, r"'bumps' reads the image .*noise\.png' outside the asset's folder"),
        (volume, r"refers to .*smoke\.vdb' outside the asset's folder"),
    ],
)
def test_what_touches_the_disk_is_refused_before_it_is_evaluated(
    folders: tuple[Path, Path], arm: Callable[[Any, Path], None], message: str
) -> None:
    inside, outside = folders
    arm(moving_cube(), outside)
    path = save(inside)
    shutil.rmtree(outside)
    with pytest.raises(AssetError, match=message) as caught:
        bake(path, frames=3)
    assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET
    assert not outside.exists()
    assert {found.stem for found in inside.iterdir()} == {"a"}, "only the file and Blender's backup of it"


def test_modifiers_that_work_in_memory_are_evaluated(folders: tuple[Path, Path]) -> None:
    inside, _ = folders
    cube = moving_cube()
    displaced(cube, inside)
    cube.modifiers.new("subdivision", "SUBSURF").levels = 1
    cube.modifiers.new("cloth", "CLOTH")
    clip = bake(save(inside), frames=3)
    assert len(clip.frames[0].faces) > 12


def test_a_sequence_must_not_read_material_libraries_elsewhere(folders: tuple[Path, Path]) -> None:
    inside, outside = folders
    moving_cube()
    (outside / "a.mtl").write_text("newmtl red\nKd 1 0 0\n")
    for number in range(2):
        bpy.context.scene.frame_set(24 * number)
        bpy.ops.wm.obj_export(filepath=str(inside / f"cube_{number}.obj"), export_materials=False)
    assert len(bake(inside, frames=2).frames) == 2
    for reference in ("../outside/a.mtl", str(outside / "a.mtl"), r"..\outside\a.mtl"):
        text = (inside / "cube_1.obj").read_text()
        (inside / "cube_1.obj").write_text(f"mtllib {reference}\n{text}")
        with pytest.raises(AssetError, match=r"material library .* is outside the asset's folder") as caught:
            bake(inside, frames=2)
        assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET
        (inside / "cube_1.obj").write_text(text)


def test_files_of_our_own_are_not_concerned(folders: tuple[Path, Path]) -> None:
    inside, _ = folders
    (inside / "flag.glb").write_bytes(SAMPLES["flag"]())
    assert len(bake(inside / "flag.glb", frames=2).frames) == 2


def test_no_importer_reads_an_image_outside_the_folder(folders: tuple[Path, Path]) -> None:
    """A path that does not exist here, such as one on the author's machine, only loses the texture."""
    inside, outside = folders
    cube = moving_cube()
    material = bpy.data.materials.new("paint")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image_in(outside)
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    cube.data.materials.append(material)
    bpy.ops.wm.collada_export(filepath=str(inside / "a.dae"), include_animations=True, use_texture_copies=False)
    bpy.ops.export_scene.fbx(filepath=str(inside / "a.fbx"), path_mode="ABSOLUTE")
    (inside / "sequence").mkdir()
    for number in range(2):
        bpy.context.scene.frame_set(24 * number)
        bpy.ops.wm.obj_export(filepath=str(inside / "sequence" / f"cube_{number}.obj"), path_mode="ABSOLUTE")
    elsewhere = str(outside / "noise.png")
    assert elsewhere in (inside / "a.dae").read_text()
    assert elsewhere.encode() in (inside / "a.fbx").read_bytes()
    assert elsewhere in (inside / "sequence" / "cube_0.mtl").read_text()
    watch = FolderWatch()
    watch.add(outside)
    with pytest.raises(AssetError, match=r"refers to '.*noise.png' outside the asset's folder") as caught:
        bake(inside / "sequence", frames=2)
    assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET
    for name in ("a.dae", "a.fbx"):
        assert any("noise.png" in warning for warning in bake(inside / name, frames=2).warnings)
    assert watch.escapes() == []
    watch.close()
    (outside / "noise.png").unlink()
    assert bake(inside / "sequence", frames=2).images == ()


@pytest.mark.parametrize(
    "line",
    ["map_Kd {}", "map_Ke -s 1 1 1 {}", "bump -bm 0.5 {}", "norm \\\n{}", 'map_Kd "{}"', "map_Kd ../elsewhere/a b.png"],
)
def test_maps_of_material_libraries_cannot_leave_the_folder(tmp_path: Path, line: str) -> None:
    inside, target = tmp_path / "asset", tmp_path / "elsewhere" / "a b.png"
    inside.mkdir()
    target.parent.mkdir()
    target.write_bytes(b"")
    for number in range(2):
        (inside / f"a_{number}.obj").write_text("v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    (inside / "a_0.mtl").write_text(f"newmtl x\n{line.format(target)}\n")
    with pytest.raises(AssetError, match=r"a_0\.mtl refers to .*a b\.png' outside the asset's folder"):
        bake(inside, frames=2)


@pytest.mark.parametrize("pack", [bytes, gzip.compress, zstandard.compress])
def test_libraries_outside_the_folder_are_refused_before_they_are_opened(
    folders: tuple[Path, Path], pack: Callable[[bytes], bytes]
) -> None:
    """Whether the file itself links to them, or a library in its folder does; compressed or not."""
    inside, outside = folders
    moving_cube()
    bpy.ops.wm.save_as_mainfile(filepath=str(outside / "far.blend"))
    link(outside / "far.blend")
    bpy.ops.wm.save_as_mainfile(filepath=str(inside / "near.blend"))
    link(inside / "near.blend")
    path = save(inside)
    path.write_bytes(pack(path.read_bytes()))
    for file in (path, inside / "near.blend"):
        assert linked_files(file)
    watch = FolderWatch()
    watch.add(outside)
    for file in (path, inside / "near.blend"):
        with pytest.raises(AssetError, match=r"links to '.*far.blend' outside the asset's folder") as caught:
            bake(file, frames=2)
        assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET
    assert watch.escapes() == []
    watch.close()


def link(library: Path) -> None:
    """Link the cube of a library into a scene with another one."""
    moving_cube()
    with bpy.data.libraries.load(str(library), link=True, relative=True) as (available, into):
        into.objects = available.objects
    bpy.context.scene.collection.objects.link(into.objects[0])
