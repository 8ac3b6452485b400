"""Invalid files are refused with the right reason code."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from helix4d.assets import Limits, bake, bake_clips, check_clip, content_hash, validate
from helix4d.assets.gltf.images import header_size
from helix4d.assets.gltf.scene import Scene
from helix4d.assets.sampling import Sampling
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import Builder, moving_tetrahedron


def _code(path: Path, limits: Limits | None = None) -> ReasonCode | None:
    try:
        validate(path, limits or Limits())
        check_clip(bake(path, 4, limits=limits or Limits()))
    except AssetError as error:
        return error.code
    return None


def _edit(change: Callable[[dict[str, Any]], Any]) -> Builder:
    builder = moving_tetrahedron()
    change(builder.gltf)
    return builder


def _put(where: str, value: Any) -> Callable[[dict[str, Any]], Any]:
    def change(gltf: dict[str, Any]) -> None:
        *path, last = (int(key) if key.isdigit() else key for key in where.split("/"))
        place: Any = gltf
        for key in path:
            place = place[key]
        place[last] = value

    return change


@pytest.mark.parametrize(
    ("where", "value", "code"),
    [
        ("asset/version", "1.0", ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ("asset/minVersion", "2.1", ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ("extensionsRequired", ["KHR_future"], ReasonCode.UNSUPPORTED_EXTENSION),
        ("extensionsRequired", ["KHR_texture_basisu"], None),
        ("extensionsRequired", ["KHR_mesh_quantization"], None),
        ("nodes/0/children", [0], ReasonCode.INVALID_SCENE_GRAPH),
        ("nodes", [{"children": [1]}, {"children": [0]}], ReasonCode.INVALID_SCENE_GRAPH),
        ("nodes", [{"children": [2]}, {"children": [2]}, {}], ReasonCode.INVALID_SCENE_GRAPH),
        ("nodes", [{"children": [7]}], ReasonCode.INVALID_SCENE_GRAPH),
        ("scenes/0/nodes", [9], ReasonCode.INVALID_SCENE_GRAPH),
        ("scene", 4, ReasonCode.INVALID_GLTF),
        ("nodes/0/mesh", 3, ReasonCode.INVALID_GLTF),
        ("nodes/0/mesh", "0", ReasonCode.INVALID_GLTF),
        ("meshes/0/primitives/0/attributes", [], ReasonCode.INVALID_GLTF),
        ("accessors/0/count", 5, ReasonCode.INVALID_ACCESSOR),
        ("accessors/0/count", 10**12, ReasonCode.INVALID_ACCESSOR),
        ("accessors/0/count", -1, ReasonCode.INVALID_ACCESSOR),
        ("accessors/0/type", "VEC9", ReasonCode.INVALID_ACCESSOR),
        ("accessors/0/byteOffset", 1 << 40, ReasonCode.INVALID_ACCESSOR),
        ("bufferViews/0/byteLength", 1 << 40, ReasonCode.INVALID_ACCESSOR),
        ("buffers", [{"byteLength": 1 << 40}], ReasonCode.CORRUPT_FILE),
        ("buffers", [{"byteLength": 400, "uri": "lost.bin"}], ReasonCode.MISSING_BUFFER),
        ("animations/0/samplers/0/interpolation", "BOUNCE", ReasonCode.INVALID_GLTF),
        ("animations/0/channels/0/sampler", 1, ReasonCode.INVALID_GLTF),
        ("animations/0/samplers/0/output", 0, ReasonCode.INVALID_ACCESSOR),
        ("nodes/0/scale", [0, 0, 0], ReasonCode.DEGENERATE_GEOMETRY),
        ("nodes/0/scale", [1e300, 1, 1], ReasonCode.NON_FINITE_GEOMETRY),
        ("meshes/0/primitives/0/mode", 1, ReasonCode.NO_MESH),
        ("animations", [], ReasonCode.NO_ANIMATION),
        ("images", [{"uri": "lost.png"}], None),
        ("images", [{"uri": "../lost.png"}], ReasonCode.URI_OUTSIDE_ASSET),
    ],
)
def test_reason_codes_of_invalid_values(tmp_path: Path, where: str, value: Any, code: ReasonCode | None) -> None:
    assert _code(_edit(_put(where, value)).write(tmp_path)) == code


@pytest.mark.parametrize(
    "uri",
    [
        "../x.bin",
        "a/../../x.bin",
        "%2e%2e/x.bin",
        "%2E%2E%2Fx.bin",
        "/etc/hostname",
        "%2fetc/hostname",
        "//host/share",
        "file:///etc/hostname",
        "FILE:/etc/hostname",
        "http://example.org/x.bin",
        "https:%2f%2fexample.org/x.bin",
        "C:/x.bin",
        "c:x.bin",
        "..\\x.bin",
        "%5c%5chost%5cshare",
        "link/x.bin",
        "out.bin",
        "x%00.bin",
    ],
)
@pytest.mark.parametrize("kind", ["buffers", "images"])
def test_uris_that_leave_the_folder_are_refused(tmp_path: Path, uri: str, kind: str) -> None:
    folder = tmp_path / "asset"
    folder.mkdir()
    (tmp_path / "x.bin").write_bytes(bytes(100))
    (folder / "link").symlink_to(tmp_path)
    (folder / "out.bin").symlink_to(tmp_path / "x.bin")
    path = folder / "a.gltf"
    path.write_text(json.dumps({"asset": {"version": "2.0"}, kind: [{"uri": uri, "byteLength": 8}]}))
    assert _code(path) is ReasonCode.URI_OUTSIDE_ASSET
    assert content_hash(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_external_files_and_data_uris_are_equivalent(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    data = bytes(builder.binary)
    (tmp_path / "sub").mkdir()
    (tmp_path / "sub" / "a b.bin").write_bytes(data)
    encoded = "data:application/octet-stream;base64," + base64.b64encode(data).decode()
    frames = []
    for name, uri in (("one.gltf", "sub/a%20b.bin"), ("two.gltf", "sub/../sub/a b.bin"), ("three.gltf", encoded)):
        builder.gltf["buffers"] = [{"uri": uri, "byteLength": len(data)}]
        (tmp_path / name).write_text(json.dumps(builder.gltf))
        frames.append(bake(tmp_path / name, 2).frames[1].vertices)
    np.testing.assert_array_equal(frames[0], frames[1])
    np.testing.assert_array_equal(frames[0], frames[2])
    both = hashlib.sha256((tmp_path / "one.gltf").read_bytes() + data).hexdigest()
    assert content_hash(tmp_path / "one.gltf") == both
    (tmp_path / "sub" / "a b.bin").write_bytes(data[:-8])
    assert _code(tmp_path / "one.gltf") is ReasonCode.CORRUPT_FILE


def test_a_shape_too_far_from_the_origin_for_float32_is_refused(tmp_path: Path) -> None:
    assert _code(_edit(_put("nodes/0/translation", [0, 0, 0])).write(tmp_path)) is None
    builder = moving_tetrahedron()
    builder.gltf["nodes"] = [{"mesh": 0}, {"children": [0], "translation": [1e7, 0, 0]}]
    builder.gltf["scenes"][0]["nodes"] = [1]
    assert _code(builder.write(tmp_path)) is ReasonCode.PRECISION_LOSS
    local = moving_tetrahedron()
    far = np.frombuffer(bytes(local.binary[:48]), np.float32).reshape(4, 3) + [1e7, 0, 0]
    local.binary[:48] = far.astype(np.float32).tobytes()
    local.gltf["nodes"] = [{"mesh": 0}, {"children": [0], "translation": [-1e7, 0, 0]}]
    local.gltf["scenes"][0]["nodes"] = [1]
    assert _code(local.write(tmp_path)) is ReasonCode.PRECISION_LOSS


@pytest.mark.parametrize(
    "limits",
    [
        Limits(file_bytes=100),
        Limits(json_bytes=100),
        Limits(nodes=0),
        Limits(animations=0),
        Limits(primitives=0),
        Limits(accessor_bytes=10),
        Limits(triangles=3),
        Limits(vertices=3),
        Limits(frame_vertices=15),
        Limits(memory_bytes=500),
    ],
    ids=str,
)
def test_files_over_a_limit_are_refused(tmp_path: Path, limits: Limits) -> None:
    assert _code(moving_tetrahedron().write(tmp_path), limits) is ReasonCode.OUT_OF_MEMORY


def test_a_scene_that_needs_more_memory_is_refused_before_it_is_posed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = moving_tetrahedron().write(tmp_path)
    enough = Limits(memory_bytes=10_000)
    assert len(bake(path, 4, limits=enough).frames) == 4
    monkeypatch.setattr(Scene, "pose_all", lambda *_: pytest.fail("posed"))
    with pytest.raises(AssetError, match=r"4 triangles: 1000 frames of it need at least .* GB") as caught:
        bake(path, 1000, limits=enough)
    assert caught.value.code is ReasonCode.OUT_OF_MEMORY


def test_frames_are_bounded_by_the_memory_that_holds_them() -> None:
    assert Limits.for_memory(2_400_000).frame_vertices == 100_000
    assert Limits.for_memory(1 << 50).frame_vertices == Limits().frame_vertices


def test_a_static_sample_needs_the_memory_of_one_frame(tmp_path: Path) -> None:
    path = moving_tetrahedron().write(tmp_path)
    many = Sampling(1000, static="only")
    assert len(bake_clips(path, many, limits=Limits(memory_bytes=10_000))[0].frames) == 1


def test_accessors_without_a_buffer_view_are_bounded(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    indices = builder.gltf["accessors"][builder.primitive["indices"]]
    del indices["bufferView"]
    limits = Limits(unbacked_elements=12)
    assert _code(builder.write(tmp_path), limits) is ReasonCode.EMPTY_GEOMETRY
    indices["count"] = 15
    assert _code(builder.write(tmp_path), limits) is ReasonCode.OUT_OF_MEMORY
    # As many zeros as another accessor has elements are fine: sparse morph targets start from such zeros.
    builder.accessor(np.zeros(15))
    del builder.gltf["buffers"]  # recomputes its length
    assert _code(builder.write(tmp_path), limits) is ReasonCode.EMPTY_GEOMETRY


@pytest.mark.parametrize(("times", "code"), [([1, 0], "invalid_accessor"), ([0, np.nan], "invalid_accessor")])
def test_invalid_key_times_are_refused(tmp_path: Path, times: list[float], code: str) -> None:
    builder = moving_tetrahedron()
    builder.channel(0, "scale", times, [[1, 1, 1], [1, 1, 1]])
    assert _code(builder.write(tmp_path)) == code


def test_other_formats_and_missing_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "a.stl").write_bytes(b"solid")
    with pytest.raises(AssetError, match=r"\.stl is not supported: convert it to one of \.glb, \.gltf") as caught:
        bake(tmp_path / "a.stl")
    assert caught.value.code is ReasonCode.NOT_GLTF
    assert _code(tmp_path / "lost.glb") is ReasonCode.CORRUPT_FILE
    (tmp_path / "folder.glb").mkdir()
    assert _code(tmp_path / "folder.glb") is ReasonCode.CORRUPT_FILE


def test_image_sizes_are_read_from_headers() -> None:
    assert header_size(b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR\0\0\x40\0\0\0\x20\0") == (16384, 8192)
    jpeg = b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc2\x00\x11\x08\x01\x00\x02\x00"
    assert header_size(jpeg) == (512, 256)
    assert header_size(b"RIFF\0\0\0\0WEBPVP8X\x0a\0\0\0\0\0\0\0" + b"\xff\x01\0" + b"\xff\0\0") == (512, 256)
    assert header_size(b"\xff\xd8" + b"\0" * 1000) is None
    assert header_size(b"GIF89a") is None
