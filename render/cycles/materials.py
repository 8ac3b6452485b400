"""A Clip's materials as Cycles shader graphs.

Metallic-roughness maps one to one onto the Principled BSDF. Effects without a socket (masks, thin glass, absorption,
unlit) are built around it. Surfaces are double-sided by default: voxels have no back, and TRELLIS.2's images, rendered
with Blender, ignore glTF's culling too.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import bpy
import numpy as np

from helix4d.assets import AlphaMode, Clip, Material, Texture, Wrap
from helix4d.render.scene.uv_maps import UvMap, uv_maps

COLOR_ATTRIBUTE = "clip_color"
"""Name of the corner color attribute for vertex colors (in Cycles, "color" belongs to volumes)."""

_DIM = 10.0
"""Radiance up to which surfaces do not become lamps. Paths that hit them by chance give the same light with no more
noise, up to 1.5 times cheaper (docs/evidence/rendering.md). Much brighter ones may be small, and are hit too rarely."""

_EXTENSIONS = {Wrap.REPEAT: "REPEAT", Wrap.CLAMP: "EXTEND", Wrap.MIRROR: "MIRROR"}


def uv_layer_name(slot: int) -> str:
    """Name of the UV layer that holds, for every face, UV map number `slot` of its material."""
    return f"uv{slot}"


def build_materials(clip: Clip, vertex_colors: bool, cull_back_faces: bool) -> list[Any]:
    """Build one bpy material per material of the clip, in order.

    Args:
        clip: the clip; each of its images becomes one bpy image per color space.
        vertex_colors: whether the meshes carry `COLOR_ATTRIBUTE`.
        cull_back_faces: make the back of single-sided materials invisible, as glTF's rasterizers do.
    """
    images = _Images(clip.images)
    return [_build(material, images, vertex_colors, cull_back_faces) for material in clip.materials]


@dataclass
class _Images:
    arrays: Sequence[np.ndarray]
    built: dict[tuple[int, bool], Any] = field(default_factory=dict)

    def get(self, index: int, srgb: bool) -> Any:
        if (index, srgb) not in self.built:
            self.built[index, srgb] = _image(self.arrays[index], f"image{index}", srgb)
        return self.built[index, srgb]


def _image(array: np.ndarray, name: str, srgb: bool) -> Any:
    height, width = array.shape[:2]
    image = bpy.data.images.new(name, width, height, alpha=True, is_data=not srgb)
    image.colorspace_settings.name = "sRGB" if srgb else "Non-Color"
    # Alpha is an independent channel: it must not be multiplied into the colors of transparent texels.
    image.alpha_mode = "CHANNEL_PACKED"
    upwards = np.divide(array[::-1], np.float32(255.0), dtype=np.float32)  # Blender's first row is the lowest
    image.pixels.foreach_set(upwards.ravel())
    image.update()
    return image


def _build(material: Material, images: _Images, vertex_colors: bool, cull_back_faces: bool) -> Any:
    block = bpy.data.materials.new(material.name or "material")
    block.use_nodes = True
    graph = _Graph(block.node_tree, images, {uv: slot for slot, uv in enumerate(uv_maps(material))})
    color, alpha = _base(graph, material, vertex_colors)
    shader = _unlit(graph, color) if material.unlit else _lit(graph, material, color)
    if material.unlit or max(material.emissive) <= _DIM:
        block.cycles.emission_sampling = "NONE"  # unlit surfaces emit toward the camera only
    if alpha is not None:
        shader = graph.mix_shaders(alpha, graph.transparent(), shader)
    if material.hides_back(cull_back_faces):
        hidden = graph.node("ShaderNodeNewGeometry")["Backfacing"]
        if material.outline:  # a drawing aid around the object, which would keep all light from it
            unseen = graph.math("SUBTRACT", 1.0, graph.node("ShaderNodeLightPath")["Is Camera Ray"])
            hidden = graph.math("MAXIMUM", hidden, unseen)
        shader = graph.mix_shaders(hidden, shader, graph.transparent())
    graph.node("ShaderNodeOutputMaterial", Surface=shader)
    return block


def _base(graph: _Graph, material: Material, vertex_colors: bool) -> tuple[Any, Any]:
    """Base color, and alpha (None where it is 1 everywhere): factor × texture × vertex color."""
    color: Any = (*material.base_color, 1.0)
    alpha: Any = material.alpha
    if material.base_color_texture is not None:
        texture = graph.texture(material.base_color_texture, srgb=True)
        color, alpha = graph.multiply_colors(texture["Color"], color), graph.math("MULTIPLY", texture["Alpha"], alpha)
    if vertex_colors:
        vertex = graph.node("ShaderNodeAttribute", attribute_name=COLOR_ATTRIBUTE)
        color, alpha = graph.multiply_colors(vertex["Color"], color), graph.math("MULTIPLY", vertex["Alpha"], alpha)
    if material.alpha_mode is AlphaMode.OPAQUE:
        return color, None
    if material.alpha_mode is AlphaMode.MASK:
        # glTF shows texels with an alpha equal to the cutoff; the node only offers "less than".
        return color, graph.math("SUBTRACT", 1.0, graph.math("LESS_THAN", alpha, material.alpha_cutoff))
    return color, alpha


def _unlit(graph: _Graph, color: Any) -> Any:
    """Exactly the base color for camera, mirrors and glass; black for diffuse rays, so that it lights nothing."""
    path = graph.node("ShaderNodeLightPath")
    strength = graph.math("SUBTRACT", 1.0, path["Is Diffuse Ray"])
    return graph.node("ShaderNodeEmission", Color=color, Strength=strength)["Emission"]


def _lit(graph: _Graph, material: Material, color: Any) -> Any:
    metallic: Any = material.metallic
    roughness: Any = material.roughness
    if material.metallic_roughness_texture is not None:
        texture = graph.texture(material.metallic_roughness_texture, srgb=False)
        channels = graph.node("ShaderNodeSeparateColor", Color=texture["Color"])
        metallic = graph.math("MULTIPLY", channels["Blue"], metallic)
        roughness = graph.math("MULTIPLY", channels["Green"], roughness)
    sockets: dict[str, Any] = {"Metallic": metallic, "Roughness": roughness, "IOR": material.ior}
    if material.normal_texture is not None:
        sockets["Normal"] = _normal(graph, material.normal_texture, material.normal_scale)
    if max(material.emissive) > 0.0:
        emissive: Any = (*material.emissive, 1.0)
        if material.emissive_texture is not None:
            emissive = graph.multiply_colors(graph.texture(material.emissive_texture, srgb=True)["Color"], emissive)
        sockets |= {"Emission Color": emissive, "Emission Strength": 1.0}
    if material.transmission <= 0.0:
        return graph.node("ShaderNodeBsdfPrincipled", **{"Base Color": color}, **sockets)["BSDF"]
    return _glass(graph, material, color, sockets)


def _normal(graph: _Graph, texture: Texture, scale: float) -> Any:
    """Tangent-space normal, green up as in glTF; unlike Blender's, the scale acts on x and y before normalization."""
    color: Any = graph.texture(texture, srgb=False)["Color"]
    if scale != 1.0:
        scaled = graph.node("ShaderNodeVectorMath", operation="MULTIPLY_ADD")
        graph.connect(scaled.sockets[0], color)
        graph.connect(scaled.sockets[1], (scale, scale, 1.0))
        graph.connect(scaled.sockets[2], (0.5 - 0.5 * scale, 0.5 - 0.5 * scale, 0.0))
        color = scaled["Vector"]
    layer = uv_layer_name(graph.slots[UvMap.of(texture)])
    return graph.node("ShaderNodeNormalMap", uv_map=layer, Color=color)["Normal"]


def _glass(graph: _Graph, material: Material, color: Any, sockets: dict[str, Any]) -> Any:
    """Transmission: a thin wall does not bend light, a volume refracts and absorbs.

    Refracted rays never hit a point light, so light reaches objects inside a glass in a straight line, tinted: shadow
    rays pass through, and so do paths after a diffuse bounce, which would otherwise count the lights twice. Glass
    covers its pixels (alpha 1), as its voxels do.
    """
    weight: Any = material.transmission
    if material.transmission_texture is not None:
        texture = graph.texture(material.transmission_texture, srgb=False)
        weight = graph.math("MULTIPLY", graph.node("ShaderNodeSeparateColor", Color=texture["Color"])["Red"], weight)
    if material.thickness > 0.0:
        absorbed = _absorb(graph, material, color)
        shader = graph.node(
            "ShaderNodeBsdfPrincipled", **{"Base Color": absorbed, "Transmission Weight": weight}, **sockets
        )["BSDF"]
    else:
        shader = _thin_wall(graph, material, color, weight, sockets)
    passing = graph.math("MULTIPLY", weight, graph.math("SUBTRACT", 1.0, sockets["Metallic"]))
    path = graph.node("ShaderNodeLightPath")
    lighting = graph.math("MAXIMUM", path["Is Shadow Ray"], graph.math("MINIMUM", path["Diffuse Depth"], 1.0))
    passing = graph.math("MULTIPLY", passing, lighting)
    return graph.mix_shaders(passing, shader, graph.transparent(color))


def _thin_wall(graph: _Graph, material: Material, color: Any, weight: Any, sockets: dict[str, Any]) -> Any:
    solid = graph.node("ShaderNodeBsdfPrincipled", **{"Base Color": color}, **sockets)["BSDF"]
    surface = {"Roughness": sockets["Roughness"]} | ({"Normal": sockets["Normal"]} if "Normal" in sockets else {})
    through = graph.node("ShaderNodeBsdfRefraction", Color=color, IOR=1.0, **surface)["BSDF"]
    mirrored = graph.node("ShaderNodeBsdfAnisotropic", Color=(1.0, 1.0, 1.0, 1.0), **surface)["BSDF"]
    # Facing, not Fresnel: from inside, the Fresnel node gives total reflection, which a thin wall does not have.
    facing = graph.node("ShaderNodeLayerWeight", Blend=0.5)["Facing"]
    f0 = ((material.ior - 1.0) / (material.ior + 1.0)) ** 2
    schlick = graph.math("ADD", f0, graph.math("MULTIPLY", 1.0 - f0, graph.math("POWER", facing, 5.0)))
    pane = graph.mix_shaders(schlick, through, mirrored)
    return graph.mix_shaders(
        graph.math("MULTIPLY", weight, graph.math("SUBTRACT", 1.0, sockets["Metallic"])), solid, pane
    )


def _absorb(graph: _Graph, material: Material, color: Any) -> Any:
    """Beer's law along the path from the last surface to this one, applied where a ray hits the glass from inside.

    Unlike a volume shader this needs no closed mesh and adds no noise, but it does not tint objects inside the glass.
    The Principled BSDF takes the square root of its color for refraction, hence the factor of 2 in the exponent.
    """
    distance = material.attenuation_distance
    if distance is None or distance <= 0.0 or min(material.attenuation_color) >= 1.0:
        return color
    inside = graph.node("ShaderNodeNewGeometry")["Backfacing"]
    length = graph.math("MULTIPLY", graph.node("ShaderNodeLightPath")["Ray Length"], inside)
    exponent = graph.math("MULTIPLY", length, 2.0 / distance)
    channels = [graph.math("POWER", max(value, 1e-4), exponent) for value in material.attenuation_color]
    tint = graph.node("ShaderNodeCombineColor", Red=channels[0], Green=channels[1], Blue=channels[2])["Color"]
    return graph.multiply_colors(tint, color)


@dataclass(frozen=True)
class _Node:
    """A shader node; indexing returns an output by name."""

    block: Any

    @property
    def sockets(self) -> Any:
        return self.block.inputs

    def __getitem__(self, output: str) -> Any:
        return self.block.outputs[output]


class _Graph:
    """Builds nodes; inputs are values or outputs of other nodes."""

    def __init__(self, tree: Any, images: _Images, slots: dict[UvMap, int]) -> None:
        tree.nodes.clear()
        self.tree = tree
        self.images = images
        self.slots = slots
        self._textures: dict[tuple[Texture, bool], _Node] = {}

    def node(self, kind: str, **values: Any) -> _Node:
        """Add a node of a type; capitalized keywords are inputs, the others properties."""
        block = self.tree.nodes.new(kind)
        for name, value in values.items():
            if name[0].isupper():
                self.connect(block.inputs[name], value)
            else:
                setattr(block, name, value)
        return _Node(block)

    def connect(self, socket: Any, value: Any) -> None:
        """Link an output to a socket, or set the socket's value."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def math(self, operation: str, left: Any, right: Any) -> Any:
        """left `operation` right; products of numbers are computed at once."""
        if operation == "MULTIPLY":
            if isinstance(left, float) and isinstance(right, float):
                return left * right
            if isinstance(right, float) and right == 1.0:
                return left
        block = self.tree.nodes.new("ShaderNodeMath")
        block.operation = operation
        self.connect(block.inputs[0], left)
        self.connect(block.inputs[1], right)
        return block.outputs[0]

    def multiply_colors(self, left: Any, right: Any) -> Any:
        """Product per channel."""
        if isinstance(right, tuple) and right[:3] == (1.0, 1.0, 1.0):
            return left
        block = self.tree.nodes.new("ShaderNodeVectorMath")
        block.operation = "MULTIPLY"
        for socket, value in zip(block.inputs, (left, right), strict=False):
            self.connect(socket, value[:3] if isinstance(value, tuple) else value)
        return block.outputs[0]

    def mix_shaders(self, factor: Any, first: Any, second: Any) -> Any:
        """Mix two shaders: `first` where the factor is 0, `second` where it is 1."""
        block = self.tree.nodes.new("ShaderNodeMixShader")
        for socket, value in zip(block.inputs, (factor, first, second), strict=True):
            self.connect(socket, value)
        return block.outputs[0]

    def transparent(self, color: Any = (1.0, 1.0, 1.0, 1.0)) -> Any:
        """A transparent surface, or a color filter."""
        return self.node("ShaderNodeBsdfTransparent", Color=color)["BSDF"]

    def texture(self, texture: Texture, srgb: bool) -> _Node:
        """An image texture, sampled once however often it is used."""
        if (texture, srgb) not in self._textures:
            image = self.images.get(texture.image, srgb)
            uv = self.node("ShaderNodeUVMap", uv_map=uv_layer_name(self.slots[UvMap.of(texture)]))["UV"]
            extension, vector = self._wrap(uv, texture, image.size)
            interpolation = "Closest" if texture.nearest else "Linear"
            node = self.node(
                "ShaderNodeTexImage", image=image, interpolation=interpolation, extension=extension, Vector=vector
            )
            self._textures[texture, srgb] = node
        return self._textures[texture, srgb]

    def _wrap(self, uv: Any, texture: Texture, size: tuple[int, int]) -> tuple[str, Any]:
        """Return the image node's extension, which applies to both axes, and its UV input.

        Where the modes differ, the node repeats or clamps one axis, and the other is wrapped with math nodes: folded,
        and kept half a texel off the border, so that the filter reads no neighbor beyond it.
        """
        modes = texture.wrap_u, texture.wrap_v
        if modes[0] is modes[1]:
            return _EXTENSIONS[modes[0]], uv
        own = Wrap.REPEAT if Wrap.REPEAT in modes else Wrap.CLAMP
        parts = self.node("ShaderNodeSeparateXYZ", Vector=uv)
        places = {}
        for name, mode, texels in zip("XY", modes, size, strict=True):
            place = parts[name]
            if mode is Wrap.MIRROR:
                place = self.math("PINGPONG", place, 1.0)
            if mode is not own:
                place = self.math("MINIMUM", self.math("MAXIMUM", place, 0.5 / texels), 1.0 - 0.5 / texels)
            places[name] = place
        return _EXTENSIONS[own], self.node("ShaderNodeCombineXYZ", **places)["Vector"]
