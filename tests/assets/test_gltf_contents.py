"""glTF features of various exporters, against values computed by hand, and errors in unused data."""

from __future__ import annotations

import io
import json
import struct
import zlib
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import pytest
from PIL import Image

from helix4d.assets import Clip, Limits, bake, bake_clips, bake_still, list_clips, validate
from helix4d.assets.gltf.images import decode_image, header_size
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import TETRAHEDRON, TETRAHEDRON_FACES, Builder, moving_tetrahedron, tetrahedron

_LIMITS = Limits()


def _pointer(builder: Builder, pointer: str, times: Any, values: Any) -> None:
    builder.channel(0, "pointer", times, values)
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": pointer}}}
    builder.gltf["animations"][0]["channels"][-1]["target"] = target


def _textured(image: bytes, mime: str = "image/png") -> Builder:
    builder = moving_tetrahedron()
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor([[0, 0], [1, 0], [0, 1], [1, 1]])
    builder.primitive["material"] = 0
    builder.gltf["images"] = [{"bufferView": builder.view(image), "mimeType": mime}]
    builder.gltf["textures"] = [{"source": 0}]
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    return builder


def _encoded(image: Image.Image, format_name: str, **options: Any) -> bytes:
    stream = io.BytesIO()
    image.save(stream, format_name, **options)
    return stream.getvalue()


# Draco


def _draco(dtype: str, values: np.ndarray, name: str, normalized: bool) -> Builder:
    """A tetrahedron whose attribute `name` is stored as integers by Draco, without quantization."""
    builder = moving_tetrahedron()
    scaled = values.astype(np.int64)
    points = TETRAHEDRON.astype(np.float32)
    extra = {} if name == "POSITION" else {"generic_attributes": {1: scaled.astype(np.uint32)}}
    data = DracoPy.encode(
        scaled.astype(np.int32) if name == "POSITION" else points,
        TETRAHEDRON_FACES.astype(np.uint32),
        quantization_bits=0 if name != "POSITION" else 16,
        preserve_order=True,
        **extra,
    )
    ids = {a["attribute_type"]: a["unique_id"] for a in DracoPy.decode(data).attributes}
    attributes = {"POSITION": ids[0]}
    if name != "POSITION":
        attributes[name] = ids[4]
        builder.primitive["attributes"][name] = builder.accessor(values, dtype, normalized=normalized)
        del builder.gltf["accessors"][-1]["bufferView"]
    else:
        builder.gltf["accessors"][0] |= {"componentType": 5122, "normalized": normalized}
        del builder.gltf["accessors"][0]["bufferView"]
    del builder.primitive["attributes"]["NORMAL"]
    builder.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": builder.view(data), "attributes": attributes}
    }
    return builder


@pytest.mark.parametrize(("dtype", "largest"), [("u1", 255), ("u2", 65535)])
def test_draco_uvs_have_the_type_and_normalization_of_their_accessor(tmp_path: Path, dtype: str, largest: int) -> None:
    shares = np.array([[0, 0], [1, 0], [0, 1], [0.2, 0.6]])
    builder = _draco(dtype, np.rint(shares * largest), "TEXCOORD_0", normalized=True)
    frame = bake(builder.write(tmp_path), 2).frames[0]
    corners = frame.vertices[frame.faces].reshape(-1, 3)
    uvs = frame.topology.uvs[0].reshape(-1, 2)
    expected = {(0, 0, 0): (0, 0), (1, 0, 0): (1, 0), (0, 0, 1): (0, 1), (0, -1, 0): (0.2, 0.6)}
    for corner, uv in zip(corners, uvs, strict=True):
        np.testing.assert_allclose(uv, expected[tuple(int(v) for v in np.rint(corner))], atol=1 / largest)  # type: ignore[index]


def test_draco_colors_of_sixteen_bits_are_normalized(tmp_path: Path) -> None:
    colors = np.tile([65535, 13107, 0, 65535], (4, 1))
    colored = bake(_draco("u2", colors, "COLOR_0", normalized=True).write(tmp_path), 2).frames[0].topology.colors
    assert colored is not None
    np.testing.assert_allclose(colored, np.broadcast_to([1, 0.2, 0, 1], (4, 3, 4)), atol=1e-6)


def test_draco_values_that_do_not_fit_their_accessor_are_refused(tmp_path: Path) -> None:
    builder = _draco("u2", np.full((4, 2), 300), "TEXCOORD_0", normalized=True)
    builder.gltf["accessors"][-1]["componentType"] = 5121
    with pytest.raises(AssetError, match="do not fit") as caught:
        bake(builder.write(tmp_path), 2)
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


# Pointers and morph targets


def _morphing(targets: int = 2) -> Builder:
    builder = tetrahedron()
    builder.primitive["targets"] = [
        {"POSITION": builder.accessor(np.tile(10.0**number * np.eye(3)[number], (4, 1)))} for number in range(targets)
    ]
    return builder


def test_pointers_to_single_weights_of_nodes_and_meshes(tmp_path: Path) -> None:
    builder = _morphing()
    builder.gltf["nodes"] = [{"mesh": 0, "weights": [0.5, 0.25]}, {"mesh": 0}]
    builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    builder.gltf["meshes"][0]["weights"] = [2, 3]
    _pointer(builder, "/nodes/0/weights/1", [0, 1], [[0], [1]])
    _pointer(builder, "/meshes/0/weights/0", [0, 1], [[4], [6]])
    clip = bake(builder.write(tmp_path), 3)
    assert not clip.warnings
    for share, frame in zip((0, 0.5, 1), clip.frames, strict=True):
        # Targets move by 1 along x and by 10 along y, which is z here.
        np.testing.assert_allclose(frame.vertices[0], [0.5, 0, 10 * share], atol=1e-6)
        np.testing.assert_allclose(frame.vertices[4], [4 + 2 * share, 0, 30], atol=1e-6)


def test_pointers_to_several_weights_of_one_node_add_up(tmp_path: Path) -> None:
    builder = _morphing()
    _pointer(builder, "/nodes/0/weights/1", [0, 1], [[0], [1]])
    _pointer(builder, "/nodes/0/weights/0", [0, 1], [[1], [0]])
    clip = bake(builder.write(tmp_path), 2)
    np.testing.assert_allclose([f.vertices[0] for f in clip.frames], [[1, 0, 0], [0, 0, 10]], atol=1e-6)


def test_a_pointer_to_a_weight_that_does_not_exist_is_ignored_with_a_warning(tmp_path: Path) -> None:
    builder = _morphing()
    builder.channel(0, "weights", [0, 1], [0, 0, 1, 0])
    _pointer(builder, "/nodes/0/weights/2", [0, 1], [[0], [1]])
    clip = bake(builder.write(tmp_path), 2)
    np.testing.assert_allclose(clip.frames[1].vertices[0], [1, 0, 0], atol=1e-6)
    assert any("morph weight 2, but there are 2 morph targets" in warning for warning in clip.warnings)


@pytest.mark.parametrize(("dtype", "scale", "width"), [("f4", 1.0, 4), ("f4", 1.0, 3), ("i1", 127.0, 3)])
def test_morph_targets_of_colors_are_evaluated(tmp_path: Path, dtype: str, scale: float, width: int) -> None:
    builder = _morphing(1)
    builder.primitive["attributes"]["COLOR_0"] = builder.accessor(np.tile([1.0, 0, 0, 1], (4, 1)))
    delta = np.tile([-1, 1, 0, -0.5], (4, 1))[:, :width] * scale
    builder.primitive["targets"][0]["COLOR_0"] = builder.accessor(delta, dtype, normalized=dtype != "f4")
    builder.channel(0, "weights", [0, 1, 2], [0, 0.5, 2])
    clip = bake(builder.write(tmp_path), 3)
    alpha = [1, 0.75, 0] if width == 4 else [1, 1, 1]
    for frame, expected, opacity in zip(clip.frames, [[1, 0, 0], [0.5, 0.5, 0], [0, 1, 0]], alpha, strict=True):
        assert frame.topology.colors is not None
        np.testing.assert_allclose(frame.topology.colors, np.broadcast_to([*expected, opacity], (4, 3, 4)), atol=1e-6)


def test_frames_of_equal_colors_share_their_topology(tmp_path: Path) -> None:
    builder = _morphing(1)
    builder.primitive["attributes"]["COLOR_0"] = builder.accessor(np.tile([1.0, 0, 0], (4, 1)))
    builder.primitive["targets"][0]["COLOR_0"] = builder.accessor(np.tile([-1.0, 1, 0], (4, 1)))
    builder.channel(0, "weights", [0, 1, 2], [0, 1, 0])
    first, second, third = (frame.topology for frame in bake(builder.write(tmp_path), 3).frames)
    assert first is third
    assert first is not second


def test_morph_targets_of_uvs_and_of_missing_colors_cause_warnings(tmp_path: Path) -> None:
    builder = _morphing(1)
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor(np.zeros((4, 2)))
    builder.primitive["targets"][0] |= {
        "TEXCOORD_0": builder.accessor(np.ones((4, 2))),
        "COLOR_0": builder.accessor(np.ones((4, 3))),
        "_OWN": builder.accessor(np.ones(4)),
    }
    builder.channel(0, "weights", [0, 1], [0, 1])
    (warning,) = bake(builder.write(tmp_path), 2).warnings
    assert warning == "meshes[0].primitives[0]: COLOR_0, TEXCOORD_0 of morph targets: ignored"


# Materials and images


def test_unlit_surfaces_are_not_metallic(tmp_path: Path) -> None:
    builder = _textured(_encoded(Image.new("RGB", (2, 2)), "PNG"))
    texture = {"index": 0}
    unlit: dict[str, Any] = {"KHR_materials_unlit": {}}
    for base in ({}, {"metallicFactor": 1, "roughnessFactor": 0.5, "metallicRoughnessTexture": texture}):
        builder.gltf["materials"] = [{"pbrMetallicRoughness": base, "extensions": unlit}]
        (material,) = bake(builder.write(tmp_path), 2).materials
        assert material.unlit
        assert (material.metallic, material.metallic_roughness_texture) == (0, None)
        assert material.roughness == base.get("roughnessFactor", 1)


@pytest.mark.parametrize(("filters", "nearest"), [({"magFilter": 9728}, True), ({"minFilter": 9728}, False)])
def test_the_magnification_filter_selects_the_interpolation(
    tmp_path: Path, filters: dict[str, int], nearest: bool
) -> None:
    builder = _textured(_encoded(Image.new("RGB", (2, 2)), "PNG"))
    builder.gltf["samplers"] = [filters]
    builder.gltf["textures"][0]["sampler"] = 0
    clip = bake(builder.write(tmp_path), 2)
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert texture.nearest == nearest
    clip.save(tmp_path / "clip.safetensors")
    assert Clip.load(tmp_path / "clip.safetensors").materials == clip.materials


def _noise() -> Image.Image:
    return Image.fromarray(np.random.default_rng(5).integers(0, 256, (40, 24, 3), np.uint8), "RGB")


@pytest.mark.parametrize("progressive", [False, True])
@pytest.mark.parametrize("missing", [1, 2])
def test_a_jpeg_without_its_end_marker_has_all_pixels(progressive: bool, missing: int) -> None:
    data = _encoded(_noise(), "JPEG", progressive=progressive)
    whole, _ = decode_image(data, _LIMITS)
    np.testing.assert_array_equal(decode_image(data[:-missing], _LIMITS)[0], whole)


@pytest.mark.parametrize("share", [0.99, 0.7, 0.5])
def test_a_jpeg_that_lacks_pixels_is_broken(share: float) -> None:
    data = _encoded(_noise(), "JPEG")
    with pytest.raises(ValueError, match="truncated"):
        decode_image(data[: int(share * len(data))], _LIMITS)


def _png(bits: int, row: bytes, width: int, transparent: bytes, color: int = 0) -> bytes:
    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    header = struct.pack(">IIBBBBB", width, 1, bits, color, 0, 0, 0)
    body = chunk(b"IHDR", header) + chunk(b"tRNS", transparent) + chunk(b"IDAT", zlib.compress(b"\0" + row))
    return b"\x89PNG\r\n\x1a\n" + body + chunk(b"IEND", b"")


@pytest.mark.parametrize(
    ("bits", "row", "transparent", "grays", "alphas"),
    [
        (16, struct.pack(">3H", 0x1234, 0x1200, 0xFFFF), 0x1234, [0x12, 0x12, 0xFF], [0, 255, 255]),
        (16, struct.pack(">2H", 0, 65535), 65535, [0, 255], [255, 0]),
        (8, bytes([5, 9]), 5, [5, 9], [0, 255]),
        (4, bytes([0x3A]), 0xA, [51, 170], [255, 0]),
        (2, bytes([0b00011011]), 1, [0, 85, 170, 255], [255, 0, 255, 255]),
        (1, bytes([0b10000000]), 1, [255, 0], [0, 255]),
    ],
)
def test_the_transparent_gray_of_a_png(
    bits: int, row: bytes, transparent: int, grays: list[int], alphas: list[int]
) -> None:
    data = _png(bits, row, len(grays), struct.pack(">H", transparent))
    pixels, _ = decode_image(data, _LIMITS)
    assert pixels[0, :, 3].tolist() == alphas
    shown = pixels[0, :, 3] > 0
    assert pixels[0, shown, 0].tolist() == np.array(grays)[shown].tolist()


@pytest.mark.parametrize("size", [(5, 3), (64, 17)])
def test_avif_textures_are_decoded(tmp_path: Path, size: tuple[int, int]) -> None:
    data = _encoded(Image.new("RGB", size, (200, 100, 50)), "AVIF", quality=100)
    assert header_size(data) == size
    builder = _textured(data, "image/avif")
    builder.gltf["textures"] = [{"extensions": {"EXT_texture_avif": {"source": 0}}}]
    builder.gltf["extensionsRequired"] = ["EXT_texture_avif"]
    clip = bake(builder.write(tmp_path), 2)
    assert clip.images[0].shape == (size[1], size[0], 4)
    np.testing.assert_allclose(clip.images[0][0, 0], [200, 100, 50, 255], atol=3)
    with pytest.raises(AssetError) as caught:
        validate(builder.write(tmp_path), Limits(image_pixels=size[0] * size[1] - 1))
    assert caught.value.code is ReasonCode.TEXTURE_TOO_LARGE


@pytest.mark.parametrize("kind", ["BMP", "GIF", "TIFF"])
def test_images_in_other_formats_cause_equal_warnings_in_every_run(tmp_path: Path, kind: str) -> None:
    builder = _textured(_encoded(Image.new("RGB", (2, 2)), kind))
    path = builder.write(tmp_path)
    first, second = bake(path, 2).warnings, bake(path, 2).warnings
    assert first == second
    assert "replaced by white" in first[0]
    assert "0x" not in first[0]
    assert str(tmp_path) not in first[0]


# Versions and containers


@pytest.mark.parametrize("version", [2, 2.0, "2.0", "2.1"])
def test_a_numeric_version_is_read(tmp_path: Path, version: object) -> None:
    builder = moving_tetrahedron()
    builder.gltf["asset"] = {"version": version}
    assert len(bake(builder.write(tmp_path), 2).frames) == 2


@pytest.mark.parametrize(
    ("asset", "code"),
    [
        ({"version": 1}, ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ({"version": 1.1}, ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ({"version": "1.0"}, ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ({"version": 2, "minVersion": 2.1}, ReasonCode.UNSUPPORTED_GLTF_VERSION),
        ({"version": True}, ReasonCode.INVALID_GLTF),
        ({"version": [2]}, ReasonCode.INVALID_GLTF),
    ],
)
def test_other_versions_are_refused(tmp_path: Path, asset: dict[str, Any], code: ReasonCode) -> None:
    builder = moving_tetrahedron()
    builder.gltf["asset"] = asset
    with pytest.raises(AssetError) as caught:
        validate(builder.write(tmp_path))
    assert caught.value.code is code


@pytest.mark.parametrize("surplus", [1, 2, 3])
@pytest.mark.parametrize("padding", [False, True])
def test_a_glb_whose_json_chunk_is_not_aligned_is_read(tmp_path: Path, surplus: int, padding: bool) -> None:
    builder = moving_tetrahedron()
    builder.gltf["buffers"] = [{"byteLength": len(builder.binary)}]
    text = json.dumps(builder.gltf).encode()
    text += b" " * ((surplus - len(text)) % 4)
    body = struct.pack("<II", len(text), 0x4E4F534A) + text + (b" " * (-len(text) % 4) if padding else b"")
    body += struct.pack("<II", len(builder.binary), 0x004E4942) + bytes(builder.binary)
    path = tmp_path / "unaligned.glb"
    path.write_bytes(b"glTF" + struct.pack("<II", 2, 12 + len(body)) + body)
    assert len(bake(path, 2).frames[0].faces) == 4


# What nothing uses


def _with_unused(**parts: Any) -> Builder:
    builder = moving_tetrahedron()
    for name, entries in parts.items():
        builder.gltf.setdefault(name, []).extend(entries)
    return builder


@pytest.mark.parametrize(
    "unused",
    [
        {"accessors": [{"componentType": 5126, "count": 0, "type": "VEC3"}]},
        {"accessors": [{"componentType": 5126, "count": 9999, "type": "VEC3", "bufferView": 0}]},
        {"accessors": [{"componentType": 1, "count": 1, "type": "VEC9"}]},
        {"bufferViews": [{"buffer": 0, "byteLength": 1 << 30}]},
        {"buffers": [{}, {"byteLength": 0, "uri": "lost.bin"}]},
        {"images": [{"bufferView": 999}]},
        {"images": [{}]},
        {"images": [{"uri": "data:image/png,broken"}], "textures": [{"source": 0}]},
        {"materials": [{"pbrMetallicRoughness": {"baseColorFactor": [1]}}]},
        {"materials": [{"normalTexture": {"index": 7}}]},
        {"skins": [{"joints": [0], "inverseBindMatrices": 0}]},
        {"skins": [{"joints": []}]},
        {"meshes": [{"primitives": [{"attributes": {"POSITION": 99}}]}]},
        {"meshes": [{"primitives": [{"attributes": {}}], "weights": [1]}]},
    ],
)
def test_errors_in_unused_data_are_ignored(tmp_path: Path, unused: dict[str, Any]) -> None:
    path = _with_unused(**unused).write(tmp_path)
    validate(path)
    clip = bake(path, 2)
    assert len(clip.frames[0].faces) == 4
    assert not clip.warnings


def test_keys_of_channels_that_are_not_evaluated_may_be_invalid(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    _pointer(builder, "/materials/0/emissiveFactor", [1, 0], [[0, 0, 0], [1, 1, 1]])
    clip = bake(builder.write(tmp_path), 2)
    assert clip.times.tolist() == [0, 1]


def test_an_unused_image_may_exceed_the_limits(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    builder.gltf["images"] = [{"bufferView": builder.view(_encoded(Image.new("RGB", (9, 9)), "PNG"))}]
    assert bake(builder.write(tmp_path), 2, limits=Limits(image_pixels=80)).images == ()


def test_errors_in_used_data_are_refused(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    builder.primitive["attributes"]["TEXCOORD_0"] = len(builder.gltf["accessors"])
    builder.gltf["accessors"].append({"componentType": 5126, "count": 0, "type": "VEC2"})
    with pytest.raises(AssetError, match="count must be at least 1") as caught:
        bake(builder.write(tmp_path), 2)
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def _with_invalid_animation(first: bool) -> Builder:
    """A sound animation, and one whose keys are not sorted."""
    builder = tetrahedron()
    sound, broken = (1, 0) if first else (0, 1)
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [2, 0, 0]], animation=sound)
    builder.channel(0, "translation", [1, 0], [[0, 0, 0], [9, 0, 0]], animation=broken)
    return builder


@pytest.mark.parametrize("first", [False, True])
def test_an_invalid_animation_that_is_not_selected_is_left_out(tmp_path: Path, first: bool) -> None:
    path = _with_invalid_animation(first).write(tmp_path)
    sound, broken = (1, 0) if first else (0, 1)
    validate(path)
    for choice in ("most-moving", "longest", "first", sound):
        assert bake(path, 2, choice).index == sound
    (clip,) = bake_clips(path, 2)
    assert clip.index == sound
    assert any(f"animations[{broken}] is invalid: left out" in warning for warning in clip.warnings)
    assert [info.error is None for info in list_clips(path)] == [not first, first]
    for choice in (broken, f"clip {broken}"):
        with pytest.raises(AssetError, match="must not decrease") as caught:
            bake(path, 2, choice)
        assert caught.value.code is ReasonCode.INVALID_ACCESSOR
    assert len(bake_still(path).frames) == 1


def test_a_file_without_a_valid_animation_is_refused(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", [1, 0], [[0, 0, 0], [9, 0, 0]])
    with pytest.raises(AssetError, match="must not decrease") as caught:
        bake(builder.write(tmp_path), 2)
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR
