"""Files that are broken, hostile or of another format; and what curation needs of an FBX file."""

from __future__ import annotations

import gc
import struct
import zlib
from dataclasses import replace
from pathlib import Path

import bpy
import numpy as np
import pytest

from helix4d.assets import Limits, bake, bake_clips, list_clips, validate
from helix4d.core import AssetError, ReasonCode
from tests.assets.fbx.ascii import AsciiFbx
from tests.assets.fbx.blender_scenes import FRAMES, export
from tests.assets.fbx.test_transforms import moved
from tests.assets.glb import tetrahedron

pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")

MAGIC = b"Kaydara FBX Binary  \x00\x1a\x00"


def code_of(path: Path, limits: Limits | None = None) -> ReasonCode:
    with pytest.raises(AssetError) as caught:
        bake(path, limits=limits or Limits())
    assert str(path.parent) not in str(caught.value)
    return caught.value.code


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (b"", ReasonCode.EMPTY_FILE),
        (b"<html><body>404</body></html>", ReasonCode.NOT_GLTF),
        (b"v 0 0 0\nv 1 0 0\nv 0 1 0\nf 1 2 3\n", ReasonCode.NOT_GLTF),
        (b"glTF" + bytes(100), ReasonCode.NOT_GLTF),
        (MAGIC + struct.pack("<I", 7400) + b"\xff" * 200, ReasonCode.CORRUPT_FILE),
        (MAGIC, ReasonCode.CORRUPT_FILE),
        (b"; FBX 7.3.0 project file\nObjects: {\n", ReasonCode.CORRUPT_FILE),
        (b"; FBX 7.3.0 project file\n", ReasonCode.CORRUPT_FILE),
        (MAGIC + struct.pack("<I", 9000) + b"\xff" * 200, ReasonCode.NOT_GLTF),
    ],
)
def test_files_that_are_not_whole_fbx_are_refused(tmp_path: Path, data: bytes, code: ReasonCode) -> None:
    (tmp_path / "a.fbx").write_bytes(data)
    assert code_of(tmp_path / "a.fbx") is code


def test_a_file_that_is_cut_anywhere_is_refused(tmp_path: Path) -> None:
    export("skin", tmp_path / "whole.fbx")
    file = AsciiFbx()
    node = file.node("name with } and {")
    file.mesh(node)
    moved(file, node, tmp_path / "text.fbx")
    for name in ("whole.fbx", "text.fbx"):
        data = (tmp_path / name).read_bytes()
        validate(tmp_path / name)
        for share in (0.1, 0.3, 0.5, 0.7, 0.9, 0.99):
            (tmp_path / "cut.fbx").write_bytes(data[: int(share * len(data))])
            assert code_of(tmp_path / "cut.fbx") is ReasonCode.CORRUPT_FILE


@pytest.mark.parametrize("version", [7400, 7700])
def test_arrays_that_unpack_to_more_than_the_limit_are_refused(tmp_path: Path, version: int) -> None:
    """A megabyte of zeros takes a kilobyte in the file."""
    packed = zlib.compress(bytes(8 << 20), 9)
    properties = b"d" + struct.pack("<3I", 1 << 20, 1, len(packed)) + packed
    head = "<3QB" if version >= 7500 else "<3IB"
    start = len(MAGIC) + 4
    inner = struct.calcsize(head) * 2 + len("Objects") + len("Vertices")
    end = start + inner + len(properties)
    record = struct.pack(head, end + struct.calcsize(head), 0, 0, len("Objects")) + b"Objects"
    record += struct.pack(head, end, 1, len(properties), len("Vertices")) + b"Vertices" + properties
    data = MAGIC + struct.pack("<I", version) + record + bytes(2 * struct.calcsize(head))
    (tmp_path / "a.fbx").write_bytes(data)
    assert code_of(tmp_path / "a.fbx", replace(Limits(), accessor_bytes=1 << 22)) is ReasonCode.OUT_OF_MEMORY
    assert code_of(tmp_path / "a.fbx") is not ReasonCode.OUT_OF_MEMORY


@pytest.mark.parametrize(
    "limits",
    [{"vertices": 27}, {"triangles": 40}, {"nodes": 3}, {"animations": 0}, {"primitives": 0}, {"frame_vertices": 60}],
)
def test_limits_hold(tmp_path: Path, limits: dict[str, int]) -> None:
    export("skin", tmp_path / "a.fbx")
    assert code_of(tmp_path / "a.fbx", replace(Limits(), **limits)) is ReasonCode.OUT_OF_MEMORY


def test_numbers_that_are_not_finite_are_refused(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part", Lcl_Scaling=(1e300, 1e300, 1e300))
    file.mesh(node, [(0, 0, 0), (1e300, 0, 0), (0, 1e300, 0)], [(0, 1, 2)])
    layer = file.take("move", 0, 1)
    file.animate(layer, node, "Lcl Translation", {"X": [(0, 0), (1, 4)]})
    assert code_of(file.write(tmp_path / "a.fbx")) is ReasonCode.NON_FINITE_GEOMETRY


def test_every_action_equals_that_of_the_original_gltf(tmp_path: Path) -> None:
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


def test_reading_is_repeatable_while_memory_is_reclaimed(tmp_path: Path) -> None:
    """The binding loses references: without corrections, the interpreter crashes here."""
    export("shapes_on_a_skin", tmp_path / "a.fbx")
    expected = bake(tmp_path / "a.fbx", FRAMES)
    threshold = gc.get_threshold()
    gc.set_threshold(50, 2, 2)
    try:
        for _ in range(10):
            found = bake(tmp_path / "a.fbx", FRAMES)
            gc.collect()
    finally:
        gc.set_threshold(*threshold)
    for frame, other in zip(found.frames, expected.frames, strict=True):
        np.testing.assert_array_equal(frame.vertices, other.vertices)


def test_a_clip_knows_who_wrote_it(tmp_path: Path) -> None:
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node)
    clip = moved(file, node, tmp_path / "a.fbx")
    assert clip.extras == {"generator": "ufbx, FBX 7400 of tests"}
    assert [info.name for info in list_clips(tmp_path / "a.fbx")] == ["move"]
