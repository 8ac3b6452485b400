"""Materials that animation pointers change: every property, fading, glowing, and what decides about motion and time."""

from __future__ import annotations

import io
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import Clip, Material, bake, bake_clips, check_clip, list_clips, motion, normalize
from helix4d.assets.appearance import appearance_change
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import TETRAHEDRON, Builder, moving_tetrahedron, tetrahedron

_TEXTURE = {"index": 0}
_MATERIAL: dict[str, Any] = {
    "pbrMetallicRoughness": {"baseColorTexture": _TEXTURE, "metallicRoughnessTexture": _TEXTURE},
    "alphaMode": "BLEND",
    "normalTexture": _TEXTURE,
    "emissiveTexture": _TEXTURE,
    "emissiveFactor": [0.5, 0.25, 1.0],
    "extensions": {
        "KHR_materials_transmission": {"transmissionTexture": _TEXTURE},
        "KHR_materials_volume": {"thicknessTexture": _TEXTURE},
    },
}
_PBR = "pbrMetallicRoughness"
_TRANSMISSION = "extensions/KHR_materials_transmission"
_VOLUME = "extensions/KHR_materials_volume"
_PROPERTIES: dict[str, tuple[int, Callable[[Material], Any]]] = {
    f"{_PBR}/baseColorFactor": (4, lambda m: (*m.base_color, m.alpha)),
    f"{_PBR}/metallicFactor": (1, lambda m: m.metallic),
    f"{_PBR}/roughnessFactor": (1, lambda m: m.roughness),
    "alphaCutoff": (1, lambda m: m.alpha_cutoff),
    "emissiveFactor": (3, lambda m: m.emissive),
    "extensions/KHR_materials_emissive_strength/emissiveStrength": (1, lambda m: m.emissive[2]),
    "extensions/KHR_materials_ior/ior": (1, lambda m: m.ior),
    "normalTexture/scale": (1, lambda m: m.normal_scale),
    f"{_TRANSMISSION}/transmissionFactor": (1, lambda m: m.transmission),
    f"{_VOLUME}/thicknessFactor": (1, lambda m: m.thickness),
    f"{_VOLUME}/attenuationDistance": (1, lambda m: m.attenuation_distance),
    f"{_VOLUME}/attenuationColor": (3, lambda m: m.attenuation_color),
}
for _path, _field in {
    f"{_PBR}/baseColorTexture": "base_color_texture",
    f"{_PBR}/metallicRoughnessTexture": "metallic_roughness_texture",
    "normalTexture": "normal_texture",
    "emissiveTexture": "emissive_texture",
    f"{_TRANSMISSION}/transmissionTexture": "transmission_texture",
    f"{_VOLUME}/thicknessTexture": "thickness_texture",
}.items():
    for _name, _count in (("offset", 2), ("rotation", 1), ("scale", 2)):
        _PROPERTIES[f"{_path}/extensions/KHR_texture_transform/{_name}"] = (
            _count,
            lambda m, field=_field, name=_name: getattr(getattr(m, field), name),
        )
_SCALES = np.array([1.0, 0.5, 0.25, 0.75])


def _cubic(time: Any) -> Any:
    """A polynomial that a spline with its values and slopes as keys repeats, between 0.2 and 0.56 up to 2 s."""
    return 0.2 + 0.3 * time - 0.1 * time**2 + 0.02 * time**3


def _slope(time: Any) -> Any:
    return 0.3 - 0.2 * time + 0.06 * time**2


def _point(
    builder: Builder, pointer: str, times: Any, values: Any, interpolation: str = "LINEAR", clip: int = 0
) -> None:
    builder.channel(0, "pointer", times, values, interpolation, clip)
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": pointer}}}
    builder.gltf["animations"][clip]["channels"][-1]["target"] = target


def _still(material: dict[str, Any]) -> Builder:
    """A tetrahedron of a material."""
    builder = tetrahedron()
    builder.gltf["materials"] = [material]
    builder.primitive["material"] = 0
    return builder


def _look(clip: Clip, frame: int, face: int = 0) -> Material:
    return clip.materials[clip.frames[frame].topology.material_ids[face]]


def _textured() -> Builder:
    builder = _still(_MATERIAL)
    stream = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 255, 255, 255)).save(stream, "PNG")
    builder.gltf["images"] = [{"bufferView": builder.view(stream.getvalue())}]
    builder.gltf["textures"] = [{"source": 0}]
    builder.primitive["attributes"]["TEXCOORD_0"] = builder.accessor(np.zeros((4, 2)))
    return builder


@pytest.mark.parametrize("interpolation", ["STEP", "LINEAR", "CUBICSPLINE"])
@pytest.mark.parametrize("name", sorted(_PROPERTIES))
def test_every_property_at_two_times(tmp_path: Path, name: str, interpolation: str) -> None:
    count, read = _PROPERTIES[name]
    builder, keys = _textured(), np.array([0.0, 1.0, 2.0])
    values = _cubic(keys)[:, None] * _SCALES[:count]
    expected = {"STEP": (_cubic(0.0), _cubic(1.0)), "LINEAR": (0.31, 0.49), "CUBICSPLINE": (0.3275, 0.4925)}
    if interpolation == "CUBICSPLINE":
        tangents = _slope(keys)[:, None] * _SCALES[:count]
        values = np.stack([tangents, values, tangents], axis=1).reshape(-1, count)
    _point(builder, f"/materials/0/{name}", keys, values, interpolation)
    clip = bake(builder.write(tmp_path), 5)
    assert not clip.warnings
    for frame, value in zip((1, 3), expected[interpolation], strict=True):
        np.testing.assert_allclose(read(_look(clip, frame)), value * _SCALES[:count].squeeze(), atol=1e-6)


def test_normalized_integers_and_values_beyond_their_range(tmp_path: Path) -> None:
    builder = _still({})
    colors = builder.accessor([[0, 51, 102, 255], [255, 204, 0, 255]], "u1", normalized=True)
    _point(builder, "/materials/0/pbrMetallicRoughness/baseColorFactor", [0, 1], colors)
    _point(builder, "/materials/0/pbrMetallicRoughness/metallicFactor", [0, 1], [[-1], [3]])
    clip = bake(builder.write(tmp_path), 3)
    np.testing.assert_allclose([_look(clip, n).base_color for n in (0, 1)], [[0, 0.2, 0.4], [0.5, 0.5, 0.2]], atol=1e-6)
    assert [_look(clip, n).metallic for n in range(3)] == [0.0, 1.0, 1.0]


def test_frames_share_topologies_looks_and_arrays(tmp_path: Path) -> None:
    builder = _still({})
    _point(builder, "/materials/0/pbrMetallicRoughness/metallicFactor", [0, 1], [[0], [1]], "STEP")
    clip = bake(builder.write(tmp_path), 5)
    assert len(clip.materials) == 2
    topologies = [frame.topology for frame in clip.frames]
    assert all(topology is topologies[0] for topology in topologies[:4])
    assert topologies[4] is not topologies[0]
    assert topologies[4].faces is topologies[0].faces
    assert topologies[4].uvs is topologies[0].uvs


def test_saved_clips_are_equal(tmp_path: Path) -> None:
    builder = _textured()
    _point(builder, "/materials/0/emissiveFactor", [0, 1], [[0, 0, 0], [1, 0.5, 0]])
    clip = bake(builder.write(tmp_path), 4)
    clip.save(tmp_path / "clip.safetensors")
    loaded = Clip.load(tmp_path / "clip.safetensors")
    assert loaded.materials == clip.materials
    for one, two in zip(clip.frames, loaded.frames, strict=True):
        assert np.array_equal(one.topology.material_ids, two.topology.material_ids)
        assert np.array_equal(one.vertices, two.vertices)
    assert [_look(loaded, n).emissive for n in range(4)] == [_look(clip, n).emissive for n in range(4)]


def test_other_materials_and_parts_keep_their_look(tmp_path: Path) -> None:
    builder = _two_parts({"name": "glow"}, {"name": "still", "emissiveFactor": [0, 1, 0]})
    _point(builder, "/materials/0/emissiveFactor", [0, 1], [[0, 0, 0], [1, 0, 0]])
    clip = bake(builder.write(tmp_path), 3)
    assert [_look(clip, n, 0).emissive for n in range(3)] == [(0, 0, 0), (0.5, 0, 0), (1, 0, 0)]
    assert [_look(clip, n, 4).emissive for n in range(3)] == [(0, 1, 0)] * 3
    assert {_look(clip, n, 4).name for n in range(3)} == {"still"}


@pytest.mark.parametrize(
    "pointer",
    [
        "/materials/0/extensions/KHR_materials_clearcoat/clearcoatFactor",
        "/materials/1/emissiveFactor",
        "/materials/0/emissiveTexture/extensions/KHR_texture_transform/offset",
        "/materials/0/occlusionTexture/strength",
        "/materials/0/pbrMetallicRoughness/baseColorFactor/3",
    ],
)
def test_pointers_without_effect_are_a_warning(tmp_path: Path, pointer: str) -> None:
    builder = moving_tetrahedron()
    builder.gltf["materials"] = [{}]
    builder.primitive["material"] = 0
    _point(builder, pointer, [0, 9], [[0.0], [1.0]])
    clip = bake(builder.write(tmp_path), 3)
    assert clip.warnings == (f"animations: properties that are not supported ({pointer}): ignored",)
    assert clip.times.tolist() == [0, 0.5, 1]


def test_looks_share_the_images_that_are_converted_from_specular_glossiness(tmp_path: Path) -> None:
    builder = _textured()
    glossiness = {"diffuseTexture": _TEXTURE, "specularFactor": [0.5, 0.5, 0.5]}
    builder.gltf["materials"] = [{"extensions": {"KHR_materials_pbrSpecularGlossiness": glossiness}}]
    _point(builder, "/materials/0/emissiveFactor", [0, 1], [[0, 0, 0], [1, 1, 1]])
    clip = bake(builder.write(tmp_path), 5)
    assert len(clip.materials) == 5
    assert len(clip.images) == 2


def test_keys_of_the_wrong_size_are_refused(tmp_path: Path) -> None:
    builder = _still({})
    _point(builder, "/materials/0/emissiveFactor", [0, 1], [[0, 0], [1, 1]])
    with pytest.raises(AssetError) as error:
        bake(builder.write(tmp_path), 3)
    assert error.value.code is ReasonCode.INVALID_ACCESSOR


# What is visible


def _two_parts(first: dict[str, Any], second: dict[str, Any]) -> Builder:
    """A tetrahedron and another one, 10 m away in x, of two materials."""
    builder = _still(first)
    attributes = {"POSITION": builder.accessor(TETRAHEDRON)}
    primitive = {"attributes": attributes, "indices": builder.primitive["indices"], "material": 1}
    builder.gltf["meshes"].append({"primitives": [primitive]})
    builder.gltf["nodes"].append({"mesh": 1, "translation": [10, 0, 0]})
    builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    builder.gltf["materials"] = [first, second]
    return builder


def _fading(alphas: list[float], mode: str = "BLEND", still: float = 0.0) -> Builder:
    """Two parts, of which the distant one has the alpha of keys at 0, 1, 2, ... seconds."""
    second = {"alphaMode": mode, "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, still]}}
    builder = _two_parts({}, second)
    keys = [[1, 1, 1, alpha] for alpha in alphas]
    _point(builder, "/materials/1/pbrMetallicRoughness/baseColorFactor", np.arange(len(alphas)), keys)
    return builder


def test_a_surface_that_fades_in_is_missing_only_where_it_is_invisible(tmp_path: Path) -> None:
    clip = bake(_fading([0, 1]).write(tmp_path), 5)
    assert [len(frame.faces) for frame in clip.frames] == [4, 8, 8, 8, 8]
    assert [_look(clip, n, 4).alpha for n in range(1, 5)] == [0.25, 0.5, 0.75, 1]
    assert clip.bounds()[1, 0] == 11  # the union box includes it
    assert not clip.warnings


def test_a_mask_shows_where_its_alpha_reaches_the_cutoff(tmp_path: Path) -> None:
    clip = bake(_fading([0, 1], "MASK").write(tmp_path), 5)
    assert [len(frame.faces) for frame in clip.frames] == [4, 4, 8, 8, 8]
    builder = _two_parts({}, {"alphaMode": "MASK", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 0.6]}})
    _point(builder, "/materials/1/alphaCutoff", [0, 1], [[1], [0]])
    assert [len(frame.faces) for frame in bake(builder.write(tmp_path), 5).frames] == [4, 4, 8, 8, 8]


def test_frames_without_a_faded_surface_do_not_count_for_its_box(tmp_path: Path) -> None:
    builder = _fading([1, 0, 0])
    builder.channel(1, "translation", [0, 1, 2], [[10, 0, 0], [10, 0, 0], [90, 0, 0]])
    clip = bake(builder.write(tmp_path), 5)
    assert [len(frame.faces) for frame in clip.frames] == [8, 8, 4, 4, 4]
    assert clip.bounds()[1, 0] == 11
    unit, _ = normalize(clip)
    assert all(np.abs(frame.vertices).max() <= 0.5 for frame in unit.frames)


def test_an_object_that_fades_in_alone_has_an_empty_first_frame(tmp_path: Path) -> None:
    builder = _still({"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 0]}})
    _point(builder, "/materials/0/pbrMetallicRoughness/baseColorFactor", [0, 1], [[1, 1, 1, 0], [1, 1, 1, 1]])
    clip = bake(builder.write(tmp_path), 3)
    assert [len(frame.faces) for frame in clip.frames] == [0, 4, 4]
    with pytest.raises(AssetError) as error:
        check_clip(clip)
    assert error.value.code is ReasonCode.EMPTY_FIRST_FRAME


def test_a_surface_that_stays_invisible_is_left_out(tmp_path: Path) -> None:
    builder = _fading([0, 0.001])
    builder.channel(0, "translation", [0, 3], [[0, 0, 0], [1, 0, 0]])
    builder.channel(1, "translation", [0, 60], [[10, 0, 0], [0, 0, 0]])
    clip = bake(builder.write(tmp_path), 3)
    assert {len(frame.faces) for frame in clip.frames} == {4}
    assert clip.times.tolist() == [0, 1.5, 3]
    assert clip.warnings == ("materials[1]: surfaces whose alpha makes them invisible everywhere are left out",)


def test_a_texture_decides_together_with_the_factor(tmp_path: Path) -> None:
    builder = _textured()
    builder.gltf["materials"] = [{"alphaMode": "MASK", "pbrMetallicRoughness": {"baseColorTexture": _TEXTURE}}]
    stream = io.BytesIO()
    Image.new("RGBA", (2, 2), (255, 255, 255, 153)).save(stream, "PNG")  # 0.6
    builder.gltf["images"] = [{"bufferView": builder.view(stream.getvalue())}]
    _point(builder, "/materials/0/pbrMetallicRoughness/baseColorFactor", [0, 1], [[1, 1, 1, 1], [1, 1, 1, 0.6]])
    clip = bake(builder.write(tmp_path), 3)  # 0.6, 0.48, 0.36
    assert [len(frame.faces) for frame in clip.frames] == [4, 0, 0]
    assert any("in 1 of 3 frames" in warning for warning in clip.warnings)


def test_each_animation_decides_for_itself(tmp_path: Path) -> None:
    builder = _fading([0, 1])
    builder.channel(0, "translation", [0, 3], [[0, 0, 0], [1, 0, 0]], animation=1)
    first, second = bake_clips(builder.write(tmp_path), 3)
    assert [len(frame.faces) for frame in first.frames] == [4, 8, 8]
    assert [len(frame.faces) for frame in second.frames] == [4, 4, 4]


# Time and motion


def test_colors_of_visible_surfaces_determine_the_times(tmp_path: Path) -> None:
    builder = _two_parts({}, {"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 0]}})
    _point(builder, "/materials/0/emissiveFactor", [1, 2], [[0, 0, 0], [1, 1, 1]])
    _point(builder, "/materials/1/emissiveFactor", [0, 60], [[0, 0, 0], [1, 1, 1]])  # never visible
    path = builder.write(tmp_path)
    assert [(info.start, info.end) for info in list_clips(path)] == [(1, 2)]
    assert bake(path, 3).times.tolist() == [1, 1.5, 2]


def test_only_colors_of_invisible_surfaces_change(tmp_path: Path) -> None:
    builder = _two_parts({}, {"alphaMode": "BLEND", "pbrMetallicRoughness": {"baseColorFactor": [1, 1, 1, 0]}})
    _point(builder, "/materials/1/emissiveFactor", [0, 1], [[0, 0, 0], [1, 1, 1]])
    with pytest.raises(AssetError) as error:
        bake(builder.write(tmp_path), 3)
    assert error.value.code is ReasonCode.NO_MOTION


@pytest.mark.parametrize(
    ("pointer", "keys", "change"),
    [
        ("emissiveFactor", [[0, 0, 0], [0, 0.5, 0.25]], 0.5),
        ("pbrMetallicRoughness/baseColorFactor", [[1, 1, 1, 1], [1, 0.25, 1, 1]], 0.75),
        ("pbrMetallicRoughness/baseColorFactor", [[1, 1, 1, 1], [1, 1, 1, 0.25]], 0.0),  # opaque
        ("pbrMetallicRoughness/roughnessFactor", [[0.5], [0.75]], 0.25),
        ("pbrMetallicRoughness/baseColorTexture/extensions/KHR_texture_transform/offset", [[0, 0], [0, 0.125]], 0.125),
        ("pbrMetallicRoughness/baseColorTexture/extensions/KHR_texture_transform/offset", [[0, 0], [8, 0]], 1.0),
        ("extensions/KHR_materials_emissive_strength/emissiveStrength", [[0], [1]], 0.0),  # black
    ],
)
def test_appearance_change_replaces_motion(
    tmp_path: Path, pointer: str, keys: list[list[float]], change: float
) -> None:
    builder = _textured()
    builder.gltf["materials"] = [{"pbrMetallicRoughness": {"baseColorTexture": _TEXTURE}}]
    _point(builder, f"/materials/0/{pointer}", [0, 1], keys)
    clip = bake(builder.write(tmp_path), 3)
    assert motion(clip) == 0
    assert appearance_change(clip) == pytest.approx(change, abs=1e-6)
    if change:
        check_clip(clip)
        with pytest.raises(AssetError):
            check_clip(clip, min_motion=change + 0.001)
    else:
        with pytest.raises(AssetError) as error:
            check_clip(clip)
        assert error.value.code is ReasonCode.NO_MOTION


def test_fading_counts_between_frames_that_show_the_surface(tmp_path: Path) -> None:
    assert appearance_change(bake(_fading([0, 1]).write(tmp_path), 5)) == pytest.approx(0.75)
    assert appearance_change(bake(moving_tetrahedron().write(tmp_path), 5)) == 0


def test_appearance_ignores_faces_without_area(tmp_path: Path) -> None:
    builder = _two_parts({}, {})
    builder.gltf["nodes"][1]["scale"] = [0, 0, 0]
    _point(builder, "/materials/1/emissiveFactor", [0, 1], [[0, 0, 0], [1, 1, 1]])
    assert appearance_change(bake(builder.write(tmp_path), 3)) == 0


def test_colors_of_vertices_are_appearance(tmp_path: Path) -> None:
    clip = bake(moving_tetrahedron().write(tmp_path), 2)
    colors = np.ones((4, 3, 4), np.float32)
    changed = colors.copy()
    changed[2, 0, 1] = 0.625
    frames = tuple(
        replace(frame, topology=replace(frame.topology, colors=values))
        for frame, values in zip(clip.frames, (colors, changed), strict=True)
    )
    assert appearance_change(replace(clip, frames=frames)) == pytest.approx(0.375)


def test_the_clip_that_moves_most_is_chosen_before_one_that_glows(tmp_path: Path) -> None:
    builder = _still({})
    _point(builder, "/materials/0/emissiveFactor", [0, 9], [[0, 0, 0], [1, 1, 1]])
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]], animation=1)
    assert bake(builder.write(tmp_path), 3).index == 1


# KHR_node_visibility


def test_parts_that_appear_and_disappear_with_their_children(tmp_path: Path) -> None:
    def build() -> Builder:
        builder = _two_parts({}, {})
        builder.gltf["nodes"] = [
            {"mesh": 0},
            {"children": [2], "extensions": {"KHR_node_visibility": {"visible": False}}},
            {"mesh": 1, "translation": [10, 0, 0]},
        ]
        builder.channel(0, "translation", [0, 3], [[0, 0, 0], [0, 1, 0]])
        return builder

    still = bake(build().write(tmp_path), 4)
    assert {len(frame.faces) for frame in still.frames} == {4}
    builder = build()
    visible = builder.accessor([0, 1, 0], "u1")
    _point(builder, "/nodes/1/extensions/KHR_node_visibility/visible", [0, 1, 3], visible, "STEP")
    clip = bake(builder.write(tmp_path), 4)
    assert [len(frame.faces) for frame in clip.frames] == [4, 8, 8, 4]
    assert clip.frames[0].topology is clip.frames[3].topology
    assert clip.frames[1].topology is clip.frames[2].topology
