"""Materials, textures and vertex colors of glTF files."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import DracoPy
import numpy as np
import pytest
from PIL import Image

from helix4d.assets import AlphaMode, Clip, Limits, Material, Wrap, bake
from helix4d.assets.gltf.specular_glossiness import convert_factors, convert_textures
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import TETRAHEDRON, TETRAHEDRON_FACES, Builder, moving_tetrahedron


def _with_image(image: Image.Image, format_name: str = "PNG") -> Builder:
    builder = moving_tetrahedron()
    stream = io.BytesIO()
    image.save(stream, format_name, **({"lossless": True, "exact": True} if format_name == "WEBP" else {}))
    builder.gltf["images"] = [{"uri": "unused.png"}, {"bufferView": builder.view(stream.getvalue())}]
    builder.gltf["textures"] = [{"source": 1}]
    builder.primitive["material"] = 0
    builder.primitive["attributes"]["TEXCOORD_1"] = builder.accessor([[0, 255], [255, 0], [51, 0], [0, 0]], "u1")
    builder.gltf["accessors"][-1]["normalized"] = True
    return builder


def _bake(builder: Builder, folder: Path, **material: Any) -> Clip:
    builder.gltf["materials"] = [material]
    return bake(builder.write(folder), 2)


def test_every_field_is_read(tmp_path: Path) -> None:
    builder = _with_image(Image.new("RGBA", (4, 2), (1, 2, 3, 4)))
    builder.gltf["samplers"] = [{"wrapS": 33071, "wrapT": 33648}]
    builder.gltf["textures"] = [{"source": 1, "sampler": 0}]
    transform = {"offset": [0.5, 0.25], "rotation": 1.0, "scale": [2, 3], "texCoord": 1}
    texture = {"index": 0, "extensions": {"KHR_texture_transform": transform}}
    clip = _bake(
        builder,
        tmp_path,
        name="all",
        pbrMetallicRoughness={
            "baseColorFactor": [0.1, 0.2, 0.3, 0.4],
            "baseColorTexture": texture,
            "metallicFactor": 0.5,
            "roughnessFactor": 0.25,
            "metallicRoughnessTexture": {"index": 0, "texCoord": 1},
        },
        alphaMode="MASK",
        alphaCutoff=0.005,
        doubleSided=True,
        normalTexture={"index": 0, "scale": 0.5},
        emissiveFactor=[1, 0.5, 0],
        extensions={
            "KHR_materials_emissive_strength": {"emissiveStrength": 4},
            "KHR_materials_ior": {"ior": 1.25},
            "KHR_materials_transmission": {"transmissionFactor": 0.9, "transmissionTexture": {"index": 0}},
            "KHR_materials_volume": {
                "thicknessFactor": 0.2,
                "attenuationColor": [1, 0, 0],
                "attenuationDistance": 3,
                "thicknessTexture": {"index": 0},
            },
        },
    )
    (material,) = clip.materials
    assert material.base_color == (0.1, 0.2, 0.3)
    assert (material.alpha, material.alpha_mode, material.alpha_cutoff) == (0.4, AlphaMode.MASK, 0.005)
    assert (material.metallic, material.roughness, material.normal_scale) == (0.5, 0.25, 0.5)
    assert material.emissive == (4, 2, 0)
    assert (material.ior, material.transmission, material.thickness) == (1.25, 0.9, 0.2)
    assert (material.attenuation_color, material.attenuation_distance) == ((1, 0, 0), 3)
    assert material.double_sided
    assert not material.unlit
    found = material.base_color_texture
    assert found is not None
    assert (found.image, found.uv_set, found.wrap_u, found.wrap_v) == (0, 1, Wrap.CLAMP, Wrap.MIRROR)
    assert (found.offset, found.rotation, found.scale) == ((0.5, 0.25), 1.0, (2, 3))
    assert material.transmission_texture is not None
    assert material.thickness_texture is not None
    assert len(clip.images) == 1  # the unused image is not read
    np.testing.assert_array_equal(clip.images[0], np.broadcast_to(np.uint8([1, 2, 3, 4]), (2, 4, 4)))
    topology = clip.frames[0].topology
    assert topology.uvs.shape == (2, 4, 3, 2)
    np.testing.assert_allclose(topology.uvs[1, 0], [[0, 1], [0.2, 0], [1, 0]], atol=1e-6)
    assert (topology.uvs[0] == 0).all()


def test_the_default_material_and_vertex_colors(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    builder.primitive["attributes"]["COLOR_0"] = builder.accessor([[0, 0, 65535]] * 4, "u2", normalized=True)
    clip = bake(builder.write(tmp_path), 2)
    assert clip.materials == (Material(),)
    colors = clip.frames[0].topology.colors
    assert colors is not None
    np.testing.assert_array_equal(colors, np.broadcast_to(np.float32([0, 0, 1, 1]), (4, 3, 4)))


def test_transmission_is_clamped_to_one(tmp_path: Path) -> None:
    for found, share in ((3.0, 1.0), (-1.0, 0.0), (0.25, 0.25)):
        transmission = {"KHR_materials_transmission": {"transmissionFactor": found}}
        assert _bake(_colored_tetrahedron(), tmp_path, extensions=transmission).materials[0].transmission == share


def _colored_tetrahedron() -> Builder:
    builder = moving_tetrahedron()
    builder.primitive["material"] = 0
    return builder


def test_webp_large_and_sixteen_bit_images(tmp_path: Path) -> None:
    builder = _with_image(Image.new("RGB", (6, 2), (7, 8, 9)), "WEBP")
    builder.gltf["textures"] = [{"extensions": {"EXT_texture_webp": {"source": 1}}}]
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": {"index": 0}}}]
    clip = bake(builder.write(tmp_path), 2, limits=Limits(image_side=3))
    assert clip.images[0].shape == (1, 3, 4)
    assert clip.images[0][0, 0].tolist() == [7, 8, 9, 255]
    assert any("reduced by a factor of 2" in warning for warning in clip.warnings)
    for value, byte in ((0x80FF, 128), (0x00FF, 0)):  # 16-bit values are scaled, not stretched to the image's maximum
        gray = Image.fromarray(np.full((2, 2), value, np.uint16))
        clip = _bake(_with_image(gray), tmp_path, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
        assert clip.images[0][0, 0].tolist() == [byte, byte, byte, 255]
    with pytest.raises(AssetError) as caught:
        bake(builder.write(tmp_path), limits=Limits(image_pixels=11))
    assert caught.value.code is ReasonCode.TEXTURE_TOO_LARGE


def test_missing_and_broken_images_cause_warnings(tmp_path: Path) -> None:
    builder = _with_image(Image.new("RGB", (2, 2)))
    builder.gltf["images"][1] = {"bufferView": builder.view(b"\x89PNG\r\n\x1a\nrubbish, all of it")}
    builder.gltf["textures"] = [{"source": 0}, {"source": 1}, {"extensions": {"KHR_texture_basisu": {}}}]
    textures = {"baseColorTexture": {"index": 0}, "metallicRoughnessTexture": {"index": 1}}
    clip = _bake(builder, tmp_path, pbrMetallicRoughness=textures, normalTexture={"index": 2})
    assert clip.materials[0] == Material()
    assert not clip.images
    for part in ("images[0]: missing", "images[1]: cannot be decoded", "textures[2]: has no image"):
        assert any(part in warning for warning in clip.warnings)


def test_warnings_do_not_depend_on_memory_addresses(tmp_path: Path) -> None:
    builder = _with_image(Image.new("RGB", (2, 2)))
    builder.gltf["images"][1] = {"bufferView": builder.view(b"not an image")}
    clip = _bake(builder, tmp_path, pbrMetallicRoughness={"baseColorTexture": {"index": 0}})
    expected = "images[1]: cannot be decoded (not a PNG, JPEG, WEBP or AVIF image, or corrupt): replaced by white"
    assert clip.warnings[-1] == expected


def test_specular_glossiness_of_dielectrics_and_metals(tmp_path: Path) -> None:
    base, metallic = convert_factors(np.array([[0.5, 0.4, 0.3], [0, 0, 0]]), np.array([[0.04] * 3, [1.0, 0.8, 0.3]]))
    np.testing.assert_allclose(metallic, [0, 1], atol=0.02)
    np.testing.assert_allclose(base, [[0.5, 0.4, 0.3], [1.0, 0.8, 0.3]], atol=0.02)
    diffuse = np.full((4, 4, 4), (188, 188, 188, 77), np.uint8)
    specular = np.full((2, 2, 4), (0, 0, 0, 255), np.uint8)
    first, second = convert_textures(diffuse, specular, np.ones(3), np.ones(3), 0.25)
    assert first.shape == second.shape == (4, 4, 4)
    assert first[0, 0, 3] == 77
    assert second[0, 0, 1:3].tolist() == [191, 0]
    builder = _with_image(Image.new("RGBA", (2, 2), (188, 188, 188, 77)))
    extension = {"diffuseTexture": {"index": 0, "texCoord": 1}, "specularFactor": [0, 0, 0], "glossinessFactor": 0}
    clip = _bake(builder, tmp_path, extensions={"KHR_materials_pbrSpecularGlossiness": extension})
    material = clip.materials[0]
    assert material.base_color_texture is not None
    assert material.metallic_roughness_texture is not None
    assert (material.base_color_texture.uv_set, len(clip.images)) == (1, 2)
    assert clip.images[1][0, 0, 1:3].tolist() == [255, 0]


def test_draco(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    data = DracoPy.encode(TETRAHEDRON, TETRAHEDRON_FACES.astype(np.uint32), quantization_bits=14)
    view = builder.view(bytes(data))
    builder.gltf["extensionsRequired"] = ["KHR_draco_mesh_compression"]
    builder.primitive["extensions"] = {
        "KHR_draco_mesh_compression": {"bufferView": view, "attributes": {"POSITION": 0}}
    }
    del builder.primitive["attributes"]["NORMAL"]
    path = builder.write(tmp_path)
    np.testing.assert_allclose(bake(path, 2).bounds(), [[0, -1, 0], [3, 0, 1]], atol=1e-3)
    builder.binary[builder.gltf["bufferViews"][view]["byteOffset"] + 8] ^= 0xFF
    with pytest.raises(AssetError) as caught:
        bake(builder.write(tmp_path))
    assert caught.value.code is ReasonCode.INVALID_ACCESSOR


def test_facts_about_the_asset_are_kept(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    extras = {"author": "\ud800", "n": 987654321}
    builder.gltf["asset"].update(copyright="© someone", generator="a test", extras=extras)
    path = builder.write(tmp_path)
    path.write_bytes(path.read_bytes().replace(b"987654321", b"1.0e99999"))  # parses to infinity
    clip = bake(path, 1)
    assert clip.extras == {"author": "?", "n": None, "copyright": "© someone", "generator": "a test"}
