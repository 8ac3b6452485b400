"""Materials that change from frame to frame: files whose surfaces fade, glow or slide, from the file to the pixels."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import Clip, bake, normalize
from helix4d.render import Lights, RenderSettings, load_engine
from helix4d.voxelize import voxelize_clip
from tests.assets.glb import Builder
from tests.render.egl import needs_egl
from tests.render.measures import WIDE, center, srgb
from tests.render.test_blenderproc import needs_blenderproc

DARK = Lights((), 0.0)
FRAMES = 5
BLACK = {"baseColorFactor": [0, 0, 0, 1], "metallicFactor": 0}


def _square(material: dict[str, Any], pointer: str, values: Any, interpolation: str = "LINEAR") -> Builder:
    """A square that faces the camera and fills its image; a property of its material changes within 4 s."""
    builder = Builder()
    corners = np.array([[-0.5, 0.5, 0], [-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0]])
    builder.primitive["attributes"] = {
        "POSITION": builder.accessor(corners),
        "NORMAL": builder.accessor(np.tile([0, 0, 1], (4, 1))),
        "TEXCOORD_0": builder.accessor([[0, 0], [0, 1], [1, 1], [1, 0]]),
    }
    builder.primitive["indices"] = builder.accessor([0, 1, 2, 0, 2, 3], "u2")
    builder.primitive["material"] = 0
    builder.gltf["materials"] = [material]
    builder.channel(0, "pointer", np.linspace(0, 4, len(values)), values, interpolation)
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": {"pointer": f"/materials/0/{pointer}"}}}
    builder.gltf["animations"][0]["channels"][-1]["target"] = target
    return builder


def _baked(builder: Builder, folder: Path) -> Clip:
    return normalize(bake(builder.write(folder), FRAMES))[0]


def _pictures(engine: str, shown: Clip, lights: Lights = DARK) -> list[np.ndarray]:
    settings = RenderSettings(image_size=WIDE.image_size, samples=4, denoise=False, device="cpu")
    images = list(load_engine(engine)(shown, [WIDE], [lights], settings))  # type: ignore[arg-type]
    assert [image.frame for image in images] == list(range(FRAMES))
    return [image.rgba.astype(int) for image in images]


both_engines = pytest.mark.parametrize("engine", ["cycles", pytest.param("raster", marks=needs_egl)])


@both_engines
def test_a_surface_fades_in(tmp_path: Path, engine: str) -> None:
    material = {"alphaMode": "BLEND", "extensions": {"KHR_materials_unlit": {}}}
    keys = [[1, 0, 0, 0], [1, 0, 0, 1]]
    shown = _baked(_square(material, "pbrMetallicRoughness/baseColorFactor", keys), tmp_path)
    pictures = _pictures(engine, shown)
    assert not pictures[0].any()
    for number, picture in enumerate(pictures[1:], 1):
        assert center(picture) == pytest.approx([255, 0, 0, 255 * number / 4], abs=1.0)
    ovoxels = voxelize_clip(shown, 32, device="cpu")
    assert [np.unique(ovoxel.alpha).tolist() for ovoxel in ovoxels] == [[], [63], [127], [191], [255]]


@pytest.mark.parametrize(
    "engine",
    [
        "cycles",
        pytest.param("raster", marks=needs_egl),
        pytest.param("blenderproc", marks=[needs_blenderproc, pytest.mark.slow]),
    ],
)
def test_a_surface_glows(tmp_path: Path, engine: str) -> None:
    builder = _square({"pbrMetallicRoughness": BLACK}, "emissiveFactor", [[0, 0, 0], [1, 0.5, 0]])
    shown = _baked(builder, tmp_path)
    pictures = _pictures(engine, shown)
    voxels = voxelize_clip(shown, 32, device="cpu", emissive="add")
    for number, (picture, ovoxel) in enumerate(zip(pictures, voxels, strict=True)):
        color = srgb(number / 4, number / 8, 0.0)
        assert center(picture) == pytest.approx([*color, 255], abs=1.0)
        assert np.abs(ovoxel.base_color - color).max() <= 1.0


@both_engines
def test_a_glow_of_changing_strength(tmp_path: Path, engine: str) -> None:
    strength = "extensions/KHR_materials_emissive_strength/emissiveStrength"
    material = {"pbrMetallicRoughness": BLACK, "emissiveFactor": [0.25, 0, 0]}
    shown = _baked(_square(material, strength, [[0], [4], [4]], "STEP"), tmp_path)
    assert [round(center(picture)[0]) for picture in _pictures(engine, shown)] == [0, 0, 255, 255, 255]


@both_engines
def test_a_texture_slides(tmp_path: Path, engine: str) -> None:
    """Red, green, blue and white columns move to the left by one in every frame."""
    material = {
        "pbrMetallicRoughness": {"baseColorTexture": {"index": 0}},
        "extensions": {"KHR_materials_unlit": {}},
    }
    offset = "pbrMetallicRoughness/baseColorTexture/extensions/KHR_texture_transform/offset"
    builder = _square(material, offset, [[0, 0], [1, 0]])
    colors = np.array([[255, 0, 0, 255], [0, 255, 0, 255], [0, 0, 255, 255], [255, 255, 255, 255]], np.uint8)
    stream = io.BytesIO()
    Image.fromarray(np.tile(colors, (4, 1, 1)), "RGBA").save(stream, "PNG")
    builder.gltf["images"] = [{"bufferView": builder.view(stream.getvalue())}]
    builder.gltf["textures"] = [{"source": 0}]
    shown = _baked(builder, tmp_path)
    voxels = voxelize_clip(shown, 32, device="cpu")
    for number, picture in enumerate(_pictures(engine, shown)):
        expected = np.roll(colors, -number, axis=0)
        assert np.abs(picture[64, 16::32] - expected).max() <= 8  # half a pixel beside the middle of a texel
        found = [voxels[number].base_color[voxels[number].coords[:, 0] == column][0] for column in (4, 12, 20, 28)]
        assert np.abs(np.array(found, int) - expected[:, :3]).max() <= 16  # 1/16 of a texel beside its middle


@both_engines
def test_the_order_of_frames_does_not_matter(tmp_path: Path, engine: str) -> None:
    builder = _square({"pbrMetallicRoughness": BLACK}, "emissiveFactor", [[0, 0, 0], [1, 0.5, 0]])
    shown = _baked(builder, tmp_path)
    settings = RenderSettings(image_size=WIDE.image_size, samples=4, denoise=False, device="cpu")
    render: Callable[..., Any] = load_engine(engine)  # type: ignore[arg-type]
    forwards = [image.rgba for image in render(shown, [WIDE], [DARK], settings, [1, 3])]
    backwards = [image.rgba for image in render(shown, [WIDE], [DARK], settings, [3, 1])]
    assert np.array_equal(forwards, backwards[::-1])


@both_engines
def test_a_part_that_appears_is_drawn_from_then_on(tmp_path: Path, engine: str) -> None:
    builder = _square({"pbrMetallicRoughness": BLACK, "emissiveFactor": [0, 0, 1]}, "emissiveFactor", [[0, 0, 1]] * 2)
    builder.gltf["nodes"] = [{"children": [1]}, {"mesh": 0}, {"mesh": 1, "translation": [0, 0, -0.5]}]
    behind = {**builder.primitive, "material": 1}
    builder.gltf["meshes"].append({"primitives": [behind]})
    builder.gltf["materials"].append({"pbrMetallicRoughness": BLACK, "emissiveFactor": [1, 0, 0]})
    builder.gltf["scenes"] = [{"nodes": [0, 2]}]
    builder.channel(0, "pointer", [0, 2, 3], builder.accessor([0, 1, 0], "u1"), "STEP")
    pointer = {"pointer": "/nodes/0/extensions/KHR_node_visibility/visible"}
    target = {"path": "pointer", "extensions": {"KHR_animation_pointer": pointer}}
    builder.gltf["animations"][0]["channels"][-1]["target"] = target
    shown = _baked(builder, tmp_path)
    red, blue = [255, 0, 0, 255], [0, 0, 255, 255]
    colors = [center(picture).round().tolist() for picture in _pictures(engine, shown)]
    assert colors == [red, red, blue, red, red]
    ovoxels = voxelize_clip(shown, 32, device="cpu")
    counts = [len(ovoxel) for ovoxel in ovoxels]
    assert counts[0] == counts[1] == counts[3] == counts[4] < counts[2]
