"""What Blender cannot read, or says that it lost, is an error or a warning that two runs record alike."""

from __future__ import annotations

import gzip
import shutil
from pathlib import Path

import bpy
import pytest
import zstandard

from helix4d.assets.blender.printed import losses
from helix4d.core import AssetError, ReasonCode
from tests.assets.blender.scenes import add_plane, baked, empty, rising
from tests.assets.in_process import bake


@pytest.fixture(scope="module")
def plane(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A .blend file without compression."""
    path = tmp_path_factory.mktemp("plane") / "plane.blend"
    empty()
    rising(add_plane())
    bpy.ops.wm.save_as_mainfile(filepath=str(path), compress=False)
    return path


@pytest.mark.parametrize(
    ("head", "version"),
    [(b"BLENDER17-01v0500", "5.0"), (b"BLENDER17-01v0612", "6.12"), (b"BLENDER-v500", "5.0"), (b"BLENDER-V501", "5.1")],
)
@pytest.mark.parametrize("compress", [bytes, gzip.compress, zstandard.ZstdCompressor().compress])
def test_a_file_of_a_newer_blender_names_both_versions(
    tmp_path: Path, head: bytes, version: str, compress: type
) -> None:
    path = tmp_path / "a b.blend"
    path.write_bytes(compress(head + bytes(5000)))
    with pytest.raises(AssetError, match=rf"was written by a newer Blender \({version}; this is 4\.2\)") as caught:
        bake(path)
    assert caught.value.code is ReasonCode.UNSUPPORTED_VERSION
    assert str(tmp_path) not in str(caught.value)


def test_a_file_of_a_later_minor_version_is_read_with_a_warning(tmp_path: Path, plane: Path) -> None:
    data = plane.read_bytes()
    assert data.startswith(b"BLENDER-v402")
    (tmp_path / "a.blend").write_bytes(data.replace(b"BLENDER-v402", b"BLENDER-v405", 1))
    clip = bake(tmp_path / "a.blend", 2)
    assert any("newer Blender (4.5" in warning for warning in clip.warnings)
    assert not bake(plane, 2).warnings


def test_the_reason_of_a_broken_file_comes_first_and_without_a_path(tmp_path: Path, plane: Path) -> None:
    folder = tmp_path / ("a long folder " * 10)
    folder.mkdir()
    data = plane.read_bytes()
    (folder / "a.blend").write_bytes(data[:12] + data[12:].replace(b"GLOB", b"BOLG", 1).replace(b"DNA1", b"1AND", 1))
    with pytest.raises(AssetError) as caught:
        bake(folder / "a.blend")
    assert "long folder" not in str(caught.value)
    assert len(str(caught.value)) < 200


def test_hdf5_alembic_says_how_to_convert_it(tmp_path: Path) -> None:
    (tmp_path / "a.abc").write_bytes(b"\x89HDF\r\n\x1a\n" + bytes(100))
    with pytest.raises(AssetError, match="abcconvert -toOgawa") as caught:
        bake(tmp_path / "a.abc")
    assert caught.value.code is ReasonCode.UNSUPPORTED_VERSION


def test_a_driver_that_is_not_run_is_a_warning(tmp_path: Path) -> None:
    empty()
    rising(add_plane()).driver_add("location", 0).driver.expression = "undefined_name + frame"
    warnings = baked(tmp_path / "a.blend").warnings
    assert any("undefined_name" in warning for warning in warnings)
    assert len(warnings) == len(set(warnings)) < 6


def write_sequence(folder: Path) -> None:
    """Write two .obj files whose texture and one of whose material libraries are missing."""
    folder.mkdir(parents=True)
    for number in range(2):
        (folder / f"a_{number}.obj").write_text(
            "mtllib a.mtl\nmtllib lost.mtl\nusemtl m\n"
            f"v 0 0 {number}\nv 1 0 {number}\nv 0 1 {number}\nvt 0 0\nvt 1 0\nvt 0 1\nf 1/1 2/2 3/3\n"
        )
    (folder / "a.mtl").write_text("newmtl m\nKd 1 0.5 0\nmap_Kd pictures/lost.png\n")


def test_missing_files_of_an_obj_sequence_are_warnings_without_paths(tmp_path: Path) -> None:
    found = []
    for name in ("one", "another folder/with a longer name"):
        write_sequence(tmp_path / name)
        found.append(bake(tmp_path / name, 2).warnings)
        shutil.rmtree(tmp_path / name)
    assert found[0] == found[1]
    for lost in ("lost.png", "lost.mtl"):
        assert any(lost in warning for warning in found[0]), found[0]
    assert not any(str(tmp_path) in warning for warning in found[0])


def test_what_importers_print_is_reduced_to_losses() -> None:
    printed = """Read blend: "/home/me/a.blend"
OBJ import of 'a.obj' took 0.60 ms
Alembic import took 1.03 ms
Info: Saved "d.blend"

Cannot load image file: '/home/me/my textures/wood.png'
Cannot load image file: '/home/me/my textures/wood.png'
WARN (io.fbx): source/blender/io/importer.cc:120 import_curve: MIXED anim interpolation of /home/me/a.fbx
TRIANGLE_STRIPS is not supported at 50% and 3/4
<Mesh object at 0x7f3a5c00> removed unused curves
"""
    assert losses(printed, "/home/me/my textures", "/home/me") == [
        "Blender: Cannot load image file: 'wood.png'",
        "Blender: MIXED anim interpolation of a.fbx",
        "Blender: TRIANGLE_STRIPS is not supported at 50% and 3/4",
        "Blender: <Mesh object> removed unused curves",
    ]
    many = losses("\n".join(f"loss {number}" for number in range(50)))
    assert (len(many), many[-1]) == (21, "Blender: 30 more messages")
    assert max(map(len, losses("x" * 5000))) < 250


def test_a_skin_with_a_wrong_weight_is_a_warning(tmp_path: Path) -> None:
    for distance, distorted in ((8.0, True), (0.2, False)):
        empty()
        bpy.ops.object.armature_add()
        rig = bpy.context.object
        bpy.ops.mesh.primitive_grid_add(x_subdivisions=20, y_subdivisions=20, size=2)
        mesh = bpy.context.object
        mesh.vertex_groups.new(name="Bone").add([210], 1.0, "REPLACE")
        mesh.modifiers.new("skin", "ARMATURE").object = rig
        rising(mesh)
        bone = rig.pose.bones["Bone"]
        for frame, place in ((0, 0.0), (24, distance)):
            bone.location.y = place
            bone.keyframe_insert("location", frame=frame)
        warnings = baked(tmp_path / "a.blend").warnings
        assert any("edges" in warning and "frames affected: 1)" in warning for warning in warnings) is distorted, (
            warnings
        )
