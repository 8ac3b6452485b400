"""Shader graphs against Cycles: a square that emits what the graph computes, pixel by pixel."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from helix4d.assets import Clip, Texture, Wrap
from tests.assets.blender.scenes import COLORS, Nodes, add_image, add_plane, baked, empty, rising

SIDE = 8


def rendered(path: Path) -> np.ndarray:
    """Return the (SIDE, SIDE, 3) linear colors that Cycles shows from above, first row on top."""
    scene = bpy.context.scene
    camera = bpy.data.objects.new("camera", bpy.data.cameras.new("camera"))
    scene.collection.objects.link(camera)
    camera.location, camera.data.type, camera.data.ortho_scale = (0, 0, 5), "ORTHO", 2.0
    scene.camera, scene.render.engine, scene.render.filepath = camera, "CYCLES", str(path)
    scene.cycles.samples, scene.cycles.use_denoising = 1, False
    scene.cycles.pixel_filter_type, scene.cycles.filter_width = "BLACKMAN_HARRIS", 0.01
    scene.render.resolution_x = scene.render.resolution_y = SIDE
    scene.render.image_settings.file_format = "OPEN_EXR"
    scene.render.image_settings.color_depth = "32"
    scene.frame_set(0)
    bpy.ops.render.render(write_still=True)
    pixels = np.empty(SIDE * SIDE * 4, np.float32)
    bpy.data.images.load(str(path)).pixels.foreach_get(pixels)
    return pixels.reshape(SIDE, SIDE, 4)[::-1, :, :3]


def shown(clip: Clip) -> np.ndarray:
    """Return what the emission of the clip's only material shows at the same points."""
    (material,) = clip.materials
    values = np.broadcast_to(np.array(material.emissive), (SIDE, SIDE, 3))
    texture = material.emissive_texture
    if texture is None:
        return values
    frame = clip.frames[0]
    corners = frame.triangles().reshape(-1, 3)
    places = np.column_stack([corners[:, :2], np.ones(len(corners))])
    to_uv, *_ = np.linalg.lstsq(places, frame.topology.uvs[texture.uv_set].reshape(-1, 2), rcond=None)
    steps = (np.arange(SIDE) + 0.5) / SIDE * 2 - 1
    x, y = np.meshgrid(steps, -steps)
    uv = np.stack([x, y, np.ones_like(x)], axis=-1) @ to_uv
    return values * _sampled(clip.images[texture.image], texture, uv)


def _sampled(image: np.ndarray, texture: Texture, uv: np.ndarray) -> np.ndarray:
    """Return the (..., 3) linear colors of the nearest texels."""
    moved = uv @ texture.matrix()[:, :2].T + texture.matrix()[:, 2]
    texels = []
    wraps = texture.wrap_u, texture.wrap_v
    for place, wrap, size in zip(np.moveaxis(moved, -1, 0), wraps, image.shape[1::-1], strict=True):
        if wrap is Wrap.MIRROR:
            place = 1 - np.abs(place % 2 - 1)
        elif wrap is Wrap.REPEAT:
            place = place % 1
        texels.append(np.clip(np.floor(place * size).astype(int), 0, size - 1))
    srgb = image[texels[1], texels[0], :3] / 255
    return np.where(srgb <= 0.04045, srgb / 12.92, ((srgb + 0.055) / 1.055) ** 2.4)


def picture() -> Any:
    """Return an image of 4 × 4 random opaque texels."""
    pixels = np.random.default_rng(5).integers(20, 236, (4, 4, 4), dtype=np.uint8)
    pixels[..., 3] = 255
    return add_image(pixels)


def closest(nodes: Nodes, **inputs: Any) -> Any:
    """Add an Image Texture node without interpolation, and return its color."""
    return nodes.image(picture(), {"interpolation": "Closest"}, **inputs).outputs["Color"]


def mapping(kind: str, *numbers: float) -> Callable[[Nodes], Any]:
    location, angle, scale = numbers[:2], numbers[2], numbers[3:]

    def build(nodes: Nodes) -> Any:
        moved = nodes.add(
            "Mapping",
            {"vector_type": kind},
            Vector=nodes.add("TexCoord").outputs["UV"],
            Location=(*location, 0),
            Rotation=(0, 0, angle),
            Scale=(*scale, 1),
        )
        return closest(nodes, Vector=moved.outputs[0])

    return build


def wrapped(extension: str) -> Callable[[Nodes], Any]:
    def build(nodes: Nodes) -> Any:
        moved = nodes.add("Mapping", Vector=nodes.add("UVMap").outputs["UV"], Scale=(3, 3, 1), Location=(-0.7, -1.1, 0))
        options = {"interpolation": "Closest", "extension": extension}
        return nodes.image(picture(), options, Vector=moved.outputs[0]).outputs["Color"]

    return build


def mixed(blend: str, factor: float) -> Callable[[Nodes], Any]:
    def build(nodes: Nodes) -> Any:
        settings = {"data_type": "RGBA", "blend_type": blend}
        inputs = {"A": closest(nodes), "B": (0.8, 0.3, 0.1, 1), "Factor": factor}
        return nodes.add("Mix", settings, **inputs).outputs["Result"]

    return build


def adjusted(kind: str, settings: dict[str, Any] | None = None, **values: Any) -> Callable[[Nodes], Any]:
    return lambda nodes: nodes.add(kind, settings, Color=closest(nodes), **values).outputs[0]


def curves(nodes: Nodes) -> Any:
    node = nodes.add("RGBCurve", Color=closest(nodes))
    node.mapping.curves[0].points.new(0.3, 0.7)
    node.mapping.curves[3].points.new(0.6, 0.4)
    node.mapping.update()
    return node.outputs[0]


def ramp(nodes: Nodes) -> Any:
    node = nodes.add("ValToRGB", Fac=closest(nodes))
    node.color_ramp.elements[0].color, node.color_ramp.elements[1].color = (0.9, 0.1, 0, 1), (0, 0.2, 0.8, 1)
    node.color_ramp.elements.new(0.3).color = (0, 1, 0, 1)
    return node.outputs[0]


def swapped(nodes: Nodes) -> Any:
    parts = nodes.add("SeparateColor", Color=closest(nodes)).outputs
    return nodes.add("CombineColor", Red=parts["Blue"], Green=parts["Red"], Blue=parts["Green"]).outputs[0]


def arithmetic(nodes: Nodes) -> Any:
    number = nodes.add("MapRange", Value=closest(nodes), From_Min=0.1, From_Max=0.6, To_Min=1.0, To_Max=0.2).outputs[0]
    power = nodes.add("Math", {"operation": "POWER"}).inputs
    nodes.set(power[0], number)
    power[1].default_value = 1.7
    return power[0].node.outputs[0]


def two_images(nodes: Nodes) -> Any:
    second = nodes.image(add_image(COLORS, "small"), {"interpolation": "Closest"}).outputs["Color"]
    mix = nodes.add("Mix", {"data_type": "RGBA", "blend_type": "SCREEN"}, A=closest(nodes), B=second, Factor=0.6)
    return mix.outputs["Result"]


def grouped(nodes: Nodes) -> Any:
    """Return a color that goes through a group within a group, a reroute, and a muted node."""
    inner = bpy.data.node_groups.new("inner", "ShaderNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        inner.interface.new_socket("Color", in_out=direction, socket_type="NodeSocketColor")
    invert = inner.nodes.new("ShaderNodeInvert")
    inner.links.new(inner.nodes.new("NodeGroupInput").outputs[0], invert.inputs["Color"])
    inner.links.new(invert.outputs[0], inner.nodes.new("NodeGroupOutput").inputs[0])
    outer = bpy.data.node_groups.new("outer", "ShaderNodeTree")
    for direction in ("INPUT", "OUTPUT"):
        outer.interface.new_socket("Color", in_out=direction, socket_type="NodeSocketColor")
    use = outer.nodes.new("ShaderNodeGroup")
    use.node_tree = inner
    outer.links.new(outer.nodes.new("NodeGroupInput").outputs[0], use.inputs[0])
    outer.links.new(use.outputs[0], outer.nodes.new("NodeGroupOutput").inputs[0])
    group = nodes.tree.nodes.new("ShaderNodeGroup")
    group.node_tree = outer
    nodes.set(group.inputs[0], closest(nodes))
    reroute = nodes.tree.nodes.new("NodeReroute")
    nodes.set(reroute.inputs[0], group.outputs[0])
    muted = nodes.add("Gamma", Color=reroute.outputs[0], Gamma=3.0)
    muted.mute = True
    return muted.outputs[0]


def transparent_texels(nodes: Nodes) -> Any:
    """Return a color of an image whose alpha is not used, by which Blender then multiplies its colors."""
    pixels = np.full((2, 2, 4), 200, np.uint8)
    pixels[..., 3] = [[255, 128], [64, 0]]
    return nodes.image(add_image(pixels), {"interpolation": "Closest"}).outputs["Color"]


GRAPHS: dict[str, Callable[[Nodes], Any]] = {
    "image": closest,
    "point mapping": mapping("POINT", 0.13, -0.21, 0.4, 1.7, 0.6),
    "texture mapping": mapping("TEXTURE", 0.13, -0.21, 0.4, 1.3, 1.3),
    "shearing mapping": mapping("TEXTURE", 0.13, -0.21, 0.4, 2.0, 0.7),
    "mirroring mapping": mapping("POINT", 0.0, 0.05, 0.0, -1.0, 2.0),
    "repeat": wrapped("REPEAT"),
    "extend": wrapped("EXTEND"),
    "mirror": wrapped("MIRROR"),
    "mix": mixed("MIX", 0.3),
    "multiply": mixed("MULTIPLY", 1.0),
    "partial multiply": mixed("MULTIPLY", 0.5),
    "add": mixed("ADD", 0.7),
    "subtract": mixed("SUBTRACT", 0.2),
    "screen": mixed("SCREEN", 0.8),
    "divide": mixed("DIVIDE", 0.1),
    "difference": mixed("DIFFERENCE", 0.9),
    "darken": mixed("DARKEN", 0.9),
    "lighten": mixed("LIGHTEN", 0.9),
    "overlay": mixed("OVERLAY", 0.9),
    "soft light": mixed("SOFT_LIGHT", 0.9),
    "linear light": mixed("LINEAR_LIGHT", 0.2),
    "exclusion": mixed("EXCLUSION", 0.4),
    "gamma": adjusted("Gamma", Gamma=1.8),
    "invert": adjusted("Invert", Fac=0.8),
    "brightness": adjusted("BrightContrast", Bright=0.1, Contrast=0.3),
    "hue": adjusted("HueSaturation", Hue=0.6, Saturation=0.7, Value=0.9, Fac=0.9),
    "gray": adjusted("RGBToBW"),
    "curves": curves,
    "ramp": ramp,
    "swapped channels": swapped,
    "arithmetic": arithmetic,
    "two images": two_images,
    "group": grouped,
    "transparent texels": transparent_texels,
}


@pytest.mark.parametrize("name", GRAPHS)
def test_a_graph_shows_what_cycles_renders(tmp_path: Path, name: str) -> None:
    empty()
    nodes = Nodes(rising(add_plane()))
    nodes.show(nodes.add("Emission", Color=GRAPHS[name](nodes)))
    clip = baked(tmp_path / "a.blend")
    assert not clip.warnings
    # Eight bits in sRGB, and those that hold a value above 1 are clipped.
    np.testing.assert_allclose(shown(clip), rendered(tmp_path / "a.exr").clip(0, 1), atol=0.006)
