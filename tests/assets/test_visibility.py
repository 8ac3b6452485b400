"""Only visible surfaces count: for geometry, the time range, motion between frames, and collapsed geometry."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import AlphaMode, Clip, Frame, Material, Texture, Topology, bake, bake_clips, list_clips, motion
from helix4d.assets.checks import check_clip
from helix4d.assets.visibility import without_invisible
from helix4d.core import AssetError, ReasonCode
from tests.assets.glb import TETRAHEDRON, TETRAHEDRON_FACES, Builder, moving_tetrahedron, tetrahedron


def _with_second(material: dict[str, Any], texture_alpha: int | None = None, colors: Any = None) -> Builder:
    """A tetrahedron, and a second one of another material, ten times as large, 100 m away."""
    builder = tetrahedron()
    attributes: dict[str, int] = {"POSITION": builder.accessor(10 * TETRAHEDRON)}
    if texture_alpha is not None:
        pixels = np.full((4, 4, 4), 255, np.uint8)
        pixels[..., 3] = texture_alpha
        stream = io.BytesIO()
        Image.fromarray(pixels, "RGBA").save(stream, "PNG")
        builder.gltf["images"] = [{"bufferView": builder.view(stream.getvalue())}]
        builder.gltf["textures"] = [{"source": 0}]
        material.setdefault("pbrMetallicRoughness", {})["baseColorTexture"] = {"index": 0}
        attributes["TEXCOORD_0"] = builder.accessor(np.zeros((4, 2)))
    if colors is not None:
        attributes["COLOR_0"] = builder.accessor(colors)
    primitive = {"attributes": attributes, "indices": builder.primitive["indices"], "material": 0}
    builder.gltf["materials"] = [material]
    builder.gltf["meshes"].append({"primitives": [primitive]})
    builder.gltf["nodes"].append({"mesh": 1, "translation": [100, 0, 0]})
    builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    return builder


def _factor(alpha: float) -> dict[str, Any]:
    return {"baseColorFactor": [1, 1, 1, alpha]}


_INVISIBLE: list[tuple[dict[str, Any], int | None, Any]] = [
    ({"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0)}, None, None),
    ({"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0.001)}, None, None),
    ({"alphaMode": "MASK", "pbrMetallicRoughness": _factor(0.49)}, None, None),
    ({"alphaMode": "MASK", "alphaCutoff": 1.01}, None, None),
    ({"alphaMode": "BLEND"}, 0, None),
    ({"alphaMode": "MASK"}, 127, None),
    ({"alphaMode": "MASK", "pbrMetallicRoughness": _factor(0.5)}, 200, None),
    ({"alphaMode": "BLEND"}, None, np.tile([1.0, 1, 1, 0], (4, 1))),
]
_VISIBLE: list[tuple[dict[str, Any], int | None, Any]] = [
    ({"alphaMode": "OPAQUE", "pbrMetallicRoughness": _factor(0)}, None, None),
    ({"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0.01)}, None, None),
    ({"alphaMode": "MASK", "pbrMetallicRoughness": _factor(0.5)}, None, None),
    ({"alphaMode": "MASK", "alphaCutoff": 0, "pbrMetallicRoughness": _factor(0)}, None, None),
    ({"alphaMode": "MASK"}, 128, None),
    ({"alphaMode": "BLEND"}, None, np.array([[1.0, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0], [1, 1, 1, 0.5]])),
]


@pytest.mark.parametrize(("material", "texture_alpha", "colors"), _INVISIBLE)
def test_invisible_surfaces_are_ignored(
    tmp_path: Path, material: dict[str, Any], texture_alpha: int | None, colors: Any
) -> None:
    builder = _with_second({**material}, texture_alpha, colors)
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    clip = bake(builder.write(tmp_path), 2)
    assert all(len(frame.faces) == 4 for frame in clip.frames)
    np.testing.assert_allclose(clip.bounds(), [[0, -1, 0], [2, 0, 1]], atol=1e-6)
    assert motion(clip) == pytest.approx(1 / np.sqrt(6))
    assert any("surfaces whose alpha makes them invisible everywhere" in warning for warning in clip.warnings)
    still = _with_second({**material}, texture_alpha, colors)
    still.channel(1, "translation", [0, 1], [[0, 0, 0], [100, 0, 0]])
    with pytest.raises(AssetError) as caught:
        bake(still.write(tmp_path), 2)
    assert caught.value.code is ReasonCode.NO_MOTION


@pytest.mark.parametrize(("material", "texture_alpha", "colors"), _VISIBLE)
def test_surfaces_that_are_visible_somewhere_are_kept(
    tmp_path: Path, material: dict[str, Any], texture_alpha: int | None, colors: Any
) -> None:
    builder = _with_second({**material}, texture_alpha, colors)
    builder.channel(1, "translation", [0, 1], [[100, 0, 0], [200, 0, 0]])
    clip = bake(builder.write(tmp_path), 2)
    least = 4 if colors is None else 3  # three of its triangles have a corner with alpha
    assert all(len(frame.faces) >= 4 + least for frame in clip.frames)
    assert clip.bounds()[1, 0] == pytest.approx(210 if colors is None else 200, abs=11)
    assert motion(clip) > 0.4


def test_the_most_moving_clip_is_the_one_whose_motion_is_visible(tmp_path: Path) -> None:
    builder = _with_second({"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0)})
    builder.channel(1, "translation", [0, 1], [[0, 0, 0], [100, 0, 0]], animation=0)
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [0.5, 0, 0]], animation=1)
    assert bake(builder.write(tmp_path), 2).index == 1


def test_a_file_of_invisible_surfaces_is_empty(tmp_path: Path) -> None:
    builder = moving_tetrahedron()
    builder.gltf["materials"] = [{"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0)}]
    builder.primitive["material"] = 0
    with pytest.raises(AssetError, match="fully transparent") as caught:
        bake(builder.write(tmp_path), 2)
    assert caught.value.code is ReasonCode.EMPTY_GEOMETRY


def _two_surfaces(hidden: Material, images: tuple[np.ndarray, ...] = ()) -> Clip:
    faces = np.concatenate([TETRAHEDRON_FACES, TETRAHEDRON_FACES]).astype(np.int32)
    topology = Topology(faces, np.zeros((1, 8, 3, 2), np.float32), np.repeat(np.int32([0, 1]), 4))
    frames = tuple(Frame(TETRAHEDRON + np.float32(t), TETRAHEDRON, topology) for t in range(3))
    return Clip("run", 0, np.arange(3.0), frames, (Material(), hidden), images)


def test_clips_of_other_formats_lose_their_invisible_surfaces() -> None:
    transparent = np.full((2, 2, 4), (255, 255, 255, 0), np.uint8)
    textured = Material("glass", base_color_texture=Texture(0), alpha_mode=AlphaMode.BLEND)
    for hidden, images in ((Material("glass", alpha=0.0, alpha_mode=AlphaMode.BLEND), ()), (textured, (transparent,))):
        shown = without_invisible(_two_surfaces(hidden, images))
        assert {id(frame.topology) for frame in shown.frames} == {id(shown.frames[0].topology)}
        assert shown.frames[0].topology.material_ids.tolist() == [0] * 4
        assert "materials[1] ('glass')" in shown.warnings[0]
    visible = _two_surfaces(Material(alpha=0.5, alpha_mode=AlphaMode.BLEND))
    assert without_invisible(visible) is visible
    nothing = replace(visible, materials=(Material(alpha=0.0, alpha_mode=AlphaMode.BLEND),) * 2)
    with pytest.raises(AssetError) as caught:
        without_invisible(nothing)
    assert caught.value.code is ReasonCode.EMPTY_GEOMETRY


# Time range


def _skinned(builder: Builder) -> Builder:
    """Skin the tetrahedron to node 1; no vertex follows node 2, the other joint."""
    builder.primitive["attributes"] |= {
        "JOINTS_0": builder.accessor(np.tile([0, 1, 0, 0], (4, 1)), "u1"),
        "WEIGHTS_0": builder.accessor(np.tile([1.0, 0, 0, 0], (4, 1))),
    }
    builder.gltf["nodes"] = [{"mesh": 0, "skin": 0}, {}, {}]
    builder.gltf["scenes"] = [{"nodes": [0, 1, 2]}]
    builder.gltf["skins"] = [{"joints": [1, 2]}]
    return builder


@pytest.mark.parametrize(
    "case", ["empty node", "camera", "other scene", "joint", "skinned node", "invisible", "hidden", "pointer"]
)
def test_only_channels_that_move_something_visible_set_the_time_range(tmp_path: Path, case: str) -> None:
    moving, stretching, path = 0, 1, "translation"
    builder = tetrahedron()
    if case == "empty node":
        builder.gltf["nodes"].append({})
        builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    elif case == "camera":
        builder.gltf["cameras"] = [{"type": "perspective", "perspective": {"yfov": 1, "znear": 1}}]
        builder.gltf["nodes"] = [{"mesh": 0, "children": [1]}, {"camera": 0}]
    elif case == "other scene":
        builder.gltf["nodes"].append({"mesh": 0})
        builder.gltf["scenes"] = [{"nodes": [0]}, {"nodes": [1]}]
    elif case in ("joint", "skinned node"):
        builder = _skinned(builder)
        moving, stretching = 1, 2 if case == "joint" else 0
    elif case == "invisible":
        builder = _with_second({"alphaMode": "BLEND", "pbrMetallicRoughness": _factor(0)})
    elif case == "hidden":
        hidden = {"children": [1], "extensions": {"KHR_node_visibility": {"visible": False}}}
        builder.gltf["nodes"] += [{"mesh": 0}, hidden]
        builder.gltf["scenes"] = [{"nodes": [0, 2]}]
    elif case == "pointer":
        stretching, path = 0, "pointer"
    builder.channel(moving, "translation", [5, 7], [[0, 0, 0], [2, 0, 0]])
    builder.channel(stretching, path, [0, 60], [[0, 0, 0], [1, 0, 0]])
    if case == "pointer":
        extension = {"KHR_animation_pointer": {"pointer": "/materials/0/emissiveFactor"}}
        builder.gltf["animations"][0]["channels"][-1]["target"] = {"path": "pointer", "extensions": extension}
    file = builder.write(tmp_path)
    np.testing.assert_allclose(bake(file, 5).times, [5, 5.5, 6, 6.5, 7])
    assert [(info.start, info.end) for info in list_clips(file)] == [(5, 7)]


def test_a_node_that_is_shown_later_extends_the_time_range(tmp_path: Path) -> None:
    builder = tetrahedron()
    hidden = {"mesh": 0, "extensions": {"KHR_node_visibility": {"visible": False}}}
    builder.gltf["nodes"].append(hidden)
    builder.gltf["scenes"] = [{"nodes": [0, 1]}]
    builder.channel(1, "translation", [1, 9], [[0, 0, 0], [2, 0, 0]])
    builder.channel(0, "pointer", [2, 4], builder.accessor([0, 1], "u1"), "STEP")
    extension = {"KHR_animation_pointer": {"pointer": "/nodes/1/extensions/KHR_node_visibility/visible"}}
    builder.gltf["animations"][0]["channels"][-1]["target"] = {"path": "pointer", "extensions": extension}
    clip = bake(builder.write(tmp_path), 3)
    assert clip.times.tolist() == [1, 5, 9]
    assert [len(frame.faces) for frame in clip.frames] == [4, 8, 8]


@pytest.mark.parametrize(("path", "values"), [("weights", [0, 1]), ("scale", [[1, 1, 1], [2, 2, 2]])])
def test_channels_that_move_something_visible_extend_the_time_range(tmp_path: Path, path: str, values: Any) -> None:
    builder = tetrahedron()
    builder.primitive["targets"] = [{"POSITION": builder.accessor(np.ones((4, 3)))}]
    builder.gltf["nodes"] = [{"mesh": 0}, {"children": [0]}]
    builder.gltf["scenes"] = [{"nodes": [1]}]
    builder.channel(0, "translation", [5, 7], [[0, 0, 0], [2, 0, 0]])
    builder.channel(0 if path == "weights" else 1, path, [1, 9], values)
    assert bake(builder.write(tmp_path), 2).times.tolist() == [1, 9]


# Motion between frames


@pytest.mark.parametrize("loops", [1, 5, 15, 30, 45])
def test_loops_with_the_same_pose_in_all_frames_have_motion(tmp_path: Path, loops: int) -> None:
    builder = tetrahedron()
    times = np.arange(2 * loops + 1) / 2
    places = np.zeros((len(times), 3))
    places[1::2, 0] = 2
    builder.channel(0, "translation", times, places)
    clip = bake(builder.write(tmp_path))
    check_clip(clip)
    # It swings by 2 in a box of 3 × 1 × 1; the times between come within a quarter of the farthest place.
    assert 0.75 * 2 / np.sqrt(11) < motion(clip) <= 2 / np.sqrt(11) + 1e-6
    assert all(np.allclose(frame.vertices, clip.frames[0].vertices, atol=1e-5) for frame in clip.frames) == (
        loops % 15 == 0
    )


def test_a_clip_that_moves_too_little_at_all_times_is_no_motion(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", np.arange(31) / 2, [[0.01 * (n % 2), 0, 0] for n in range(31)])
    with pytest.raises(AssetError) as caught:
        check_clip(bake(builder.write(tmp_path)))
    assert caught.value.code is ReasonCode.NO_MOTION


def test_the_clip_that_moves_most_may_do_so_between_frames(tmp_path: Path) -> None:
    builder = tetrahedron()
    builder.channel(0, "translation", [0, 1], [[0, 0, 0], [0.02, 0, 0]], animation=0)
    builder.channel(0, "translation", np.arange(31) / 2, [[2 * (n % 2), 0, 0] for n in range(31)], animation=1)
    path = builder.write(tmp_path)
    assert bake(path).index == 1
    assert [motion(clip) > 0.1 for clip in bake_clips(path)] == [False, True]


def test_motion_between_frames_is_saved(tmp_path: Path) -> None:
    clip = replace(bake(moving_tetrahedron().write(tmp_path), 2), motion_between=0.75)
    clip.save(tmp_path / "clip.safetensors")
    assert motion(Clip.load(tmp_path / "clip.safetensors")) == 0.75


# Collapsed geometry


@pytest.mark.parametrize("offset", [1e8, 1e9, 1e12])
def test_positions_that_collapse_far_away_lose_precision(tmp_path: Path, offset: float) -> None:
    stored = tetrahedron(normals=False)
    stored.primitive["attributes"]["POSITION"] = stored.accessor(TETRAHEDRON + offset)
    stored.channel(0, "translation", [0, 1], [[0, 0, 0], [1, 0, 0]])
    placed = tetrahedron()
    placed.gltf["nodes"][0]["scale"] = [1e-3] * 3
    placed.channel(0, "translation", [0, 1], [[offset, 0, 0], [offset, 1, 0]])
    for builder in (stored, placed):
        with pytest.raises(AssetError) as caught:
            bake(builder.write(tmp_path), 2)
        assert caught.value.code is ReasonCode.PRECISION_LOSS


def test_geometry_that_collapses_near_the_origin_has_no_area(tmp_path: Path) -> None:
    empty = moving_tetrahedron()
    empty.primitive["attributes"]["POSITION"] = empty.accessor(np.ones((4, 3)))
    scaled = moving_tetrahedron()
    scaled.gltf["nodes"][0]["scale"] = [0, 0, 0]
    codes = []
    for builder in (empty, scaled):
        with pytest.raises(AssetError) as caught:
            bake(builder.write(tmp_path), 2)
        codes.append(caught.value.code)
    assert codes == [ReasonCode.EMPTY_GEOMETRY, ReasonCode.DEGENERATE_GEOMETRY]
