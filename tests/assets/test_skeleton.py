"""Every reader reports the joints and the up axis of a file; None if neither the format nor the file states them."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helix4d.assets import Clip, bake
from helix4d.assets.skeleton import LONGEST_NAME, MOST_NAMES, Skeleton
from tests.assets import in_process
from tests.assets.collada.documents import document, node, shown, write
from tests.assets.collada.test_deformers import INSTANCE, KEYS, SKELETON, library, skin
from tests.assets.glb import Builder, moving_tetrahedron


def rigged(names: list[Any], follows: bool = True) -> Builder:
    """A moving tetrahedron, which follows the first of several joints if it is skinned."""
    builder = moving_tetrahedron()
    first = len(builder.gltf["nodes"])
    builder.gltf["nodes"] += [{} if name is None else {"name": name} for name in names]
    builder.gltf["scenes"][0]["nodes"] += range(first, first + len(names))
    builder.gltf["skins"] = [{"joints": list(range(first, first + len(names)))}]
    if follows:
        builder.gltf["nodes"][0]["skin"] = 0
        builder.primitive["attributes"]["JOINTS_0"] = builder.accessor(np.zeros((4, 4)), "u1")
        builder.primitive["attributes"]["WEIGHTS_0"] = builder.accessor(np.eye(4)[[0] * 4])
        builder.channel(first, "translation", [0, 1], [[0, 0, 0], [0, 3, 0]])
    return builder


def test_gltf(tmp_path: Path) -> None:
    clip = bake(rigged(["hip", None, 7]).write(tmp_path), 2)
    assert clip.skeleton == Skeleton(3, ("hip", "", ""), skinned=True)
    assert clip.up_axis == "Y"
    assert bake(rigged(["hip"], follows=False).write(tmp_path), 2).skeleton == Skeleton(1, ("hip",), skinned=False)
    assert bake(moving_tetrahedron().write(tmp_path), 2).skeleton == Skeleton(0, (), skinned=False)


def test_an_invalid_skin_that_nothing_uses_is_ignored(tmp_path: Path) -> None:
    builder = rigged(["hip"], follows=False)
    builder.gltf["skins"].append({"joints": [999]})
    assert bake(builder.write(tmp_path), 2).skeleton == Skeleton(1, ("hip",), skinned=False)


def test_names_of_strangers_are_bounded(tmp_path: Path) -> None:
    names = ["long" * 1000, "half \ud800 pair", "\x1b[2J", *(f"j{number}" for number in range(300))]
    skeleton = bake(rigged(names).write(tmp_path), 2).skeleton
    assert skeleton is not None
    assert skeleton.joints == 303
    assert len(skeleton.names) == MOST_NAMES
    assert max(map(len, skeleton.names)) == LONGEST_NAME
    assert skeleton.names[0].endswith("lon…")
    assert skeleton.names[1] == "half ? pair"
    "".join(skeleton.names).encode()


def test_saved_clips_keep_them_and_older_ones_have_none(tmp_path: Path) -> None:
    clip = bake(rigged(["hip"]).write(tmp_path), 2)
    clip.save(tmp_path / "a.safetensors")
    loaded = Clip.load(tmp_path / "a.safetensors")
    assert (loaded.skeleton, loaded.up_axis) == (clip.skeleton, "Y")
    data = (tmp_path / "a.safetensors").read_bytes()
    size = struct.unpack("<Q", data[:8])[0]
    head = data[8 : 8 + size].replace(b'\\"skeleton\\"', b'\\"forgotten\\"').replace(b'\\"up_axis\\"', b'\\"another\\"')
    head += b" " * (-len(head) % 8)
    (tmp_path / "b.safetensors").write_bytes(struct.pack("<Q", len(head)) + head + data[8 + size :])
    older = Clip.load(tmp_path / "b.safetensors")
    assert (older.skeleton, older.up_axis) == (None, None)


@pytest.mark.parametrize(
    "values",
    [
        [],
        {"joints": -1, "names": [], "skinned": True},
        {"joints": True, "names": [], "skinned": True},
        {"joints": 1, "names": [1], "skinned": True},
        {"joints": 1, "names": "a", "skinned": True},
        {"joints": 1, "names": [], "skinned": None},
        {"joints": 1, "names": ["a" * (LONGEST_NAME + 1)], "skinned": True},
        {"joints": 1, "names": ["a"] * (MOST_NAMES + 1), "skinned": True},
    ],
)
def test_what_is_no_skeleton_is_refused(values: Any) -> None:
    with pytest.raises(ValueError, match=r"joint|skeleton"):
        Skeleton.from_json(values)


@pytest.mark.parametrize(("axis", "expected"), [("X_UP", "X"), ("Y_UP", "Y"), ("Z_UP", "Z"), ("UP", None), ("", None)])
def test_collada(tmp_path: Path, axis: str, expected: str | None) -> None:
    controllers = library(skin([1] * 4, [(0, 0)] * 4, [1.0]))
    content = document(
        SKELETON.replace('sid="root"', 'sid="root" name="hip" type="JOINT"') + node("shown", INSTANCE),
        KEYS,
        libraries=controllers,
        asset=f"<up_axis>{axis}</up_axis>" if axis else "",
    )
    clip = bake(write(tmp_path, content), 2, isolated=False)
    assert clip.skeleton == Skeleton(2, ("hip", "tip"), skinned=True)
    assert clip.up_axis == expected


def test_collada_without_a_skin(tmp_path: Path) -> None:
    content = document(node("root", '<translate sid="t">0 0 0</translate>' + shown(), 'type="JOINT"'), KEYS_OF_ROOT)
    assert bake(write(tmp_path, content), 2, isolated=False).skeleton == Skeleton(1, ("root",), skinned=False)


KEYS_OF_ROOT = KEYS.partition("</animation>")[0] + "</animation>"


@pytest.mark.parametrize("axis", ["Y", "Z", None])
def test_usd(tmp_path: Path, axis: str | None) -> None:
    pytest.importorskip("pxr", reason="usd-core is not installed (extra 'curate')")
    from tests.assets.usd.stages import BOX_JOINTS, BOX_WEIGHTS, bind, box, new_stage, skeleton, slide

    stage = new_stage(tmp_path / "a.usda", axis or "Y")
    if axis is None:
        stage.ClearMetadata("upAxis")
    skel, _ = skeleton(stage, "/Root")
    if axis != "Z":
        bind(box(stage, "/Root/Mesh").GetPrim(), skel, BOX_JOINTS, BOX_WEIGHTS)
    else:  # nothing follows the joints
        skel.CreateJointNamesAttr(["hip", "knee"])
        slide(box(stage, "/Mesh"))
    stage.Save()
    clip = in_process.bake(tmp_path / "a.usda", 2)
    expected = Skeleton(2, ("hip", "knee"), skinned=False) if axis == "Z" else Skeleton(2, ("a", "b"), skinned=True)
    assert clip.skeleton == expected
    assert clip.up_axis == axis


def test_usd_instances_share_one_skeleton(tmp_path: Path) -> None:
    pytest.importorskip("pxr", reason="usd-core is not installed (extra 'curate')")
    from tests.assets.usd.stages import BOX_JOINTS, BOX_WEIGHTS, bind, box, new_stage, skeleton

    stage = new_stage(tmp_path / "a.usda")
    skel, _ = skeleton(stage, "/Root")
    bind(box(stage, "/Root/Mesh").GetPrim(), skel, BOX_JOINTS, BOX_WEIGHTS)
    for number in range(3):
        copy = stage.DefinePrim(f"/Copy{number}")
        copy.GetReferences().AddInternalReference("/Root")
        copy.SetInstanceable(True)
    stage.Save()
    found = in_process.bake(tmp_path / "a.usda", 2).skeleton
    assert found is not None
    assert found.joints == 4  # the original, and what the three instances share


@pytest.mark.parametrize(("axis", "expected"), [((1, 1), "Y"), ((2, 1), "Z"), ((1, -1), "-Y"), (None, None)])
def test_fbx(tmp_path: Path, axis: tuple[int, int] | None, expected: str | None) -> None:
    pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")
    from tests.assets.fbx.ascii import AsciiFbx, axes

    other = 2 if axis is None or axis[0] == 1 else 1
    file = AsciiFbx(settings={} if axis is None else axes(axis, (other, 1), (0, 1)))
    mesh = file.mesh(file.node("part"))
    unused = file.node("unused", sub="LimbNode")
    file.connect(file.element("NodeAttribute", "", "LimbNode", '\t\tTypeFlags: "Skeleton"'), unused)
    bone = file.node("bone", sub="LimbNode")
    identity = [1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1]
    file.cluster(file.skin(mesh), bone, dict.fromkeys(range(4), 1.0), identity)
    keys = {"X": [(0, 0), (1, 2)], "Y": [(0, 0)], "Z": [(0, 0)]}
    file.animate(file.take("move", 0, 1), bone, "Lcl Translation", keys)
    clip = in_process.bake(file.write(tmp_path / "a.fbx"), 2)
    assert clip.skeleton == Skeleton(2, ("unused", "bone"), skinned=True)
    assert clip.up_axis == expected


def test_blend(tmp_path: Path) -> None:
    pytest.importorskip("bpy", reason="bpy is not installed (extra 'curate')")
    from tests.assets.blender.scenes import baked, empty, rising
    from tests.assets.fbx.blender_scenes import armature, bind, tower

    empty()
    rig = armature()
    rising(rig)
    bind(tower(), rig)
    clip = baked(tmp_path / "a.blend")
    assert clip.skeleton == Skeleton(3, ("bone0", "bone1", "bone2"), skinned=True)
    assert clip.up_axis == "Z"


def test_numbered_obj_files_have_neither(tmp_path: Path) -> None:
    pytest.importorskip("bpy", reason="bpy is not installed (extra 'curate')")
    for number in range(2):
        (tmp_path / f"a_{number}.obj").write_text(f"v {number} 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n")
    clip = in_process.bake(tmp_path, 2)
    assert (clip.skeleton, clip.up_axis) == (None, None)
