"""Materials of Blender files: shaders, their mixtures, images, vertex colors, and warnings of what is not read."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np
import pytest

from helix4d.assets import AlphaMode, Clip, Material
from helix4d.core import AssetError, ReasonCode
from tests.assets.blender.scenes import COLORS, Nodes, add_image, add_plane, baked, empty, painted_clip, rising

RED, GREEN, BLUE, WHITE = (1, 0, 0, 1), (0, 1, 0, 1), (0, 0, 1, 1), (1, 1, 1, 1)


def with_alpha(*alphas: int) -> np.ndarray:
    """Return COLORS with four other alphas."""
    pixels = COLORS.copy()
    pixels[..., 3] = np.reshape(alphas, (2, 2))
    return pixels


def material_of(path: Path, paint: Callable[[Nodes], None]) -> Material:
    """Return the only material of a square, which must raise no warning."""
    clip = painted_clip(path / "a.blend", paint)
    assert not clip.warnings
    (material,) = clip.materials
    return material


def fields(material: Material) -> tuple[Any, ...]:
    """Return base color, alpha, metallic, roughness, emission and transmission, rounded."""
    color, glow = (tuple(round(value, 4) for value in values) for values in (material.base_color, material.emissive))
    numbers = (material.alpha, material.metallic, material.roughness)
    return color, *(round(value, 4) for value in numbers), glow, round(material.transmission, 4)


BLACK3, NONE = (0.0, 0.0, 0.0), (0.0, 0.0, 0.0)
SHADERS: dict[str, tuple[Callable[[Nodes], Any], tuple[Any, ...]]] = {
    "diffuse": (lambda n: n.add("BsdfDiffuse", Color=GREEN), ((0, 1, 0), 1, 0, 1, NONE, 0)),
    "glossy": (lambda n: n.add("BsdfAnisotropic", Color=GREEN, Roughness=0.2), ((0, 1, 0), 1, 1, 0.2, NONE, 0)),
    "glass": (lambda n: n.add("BsdfGlass", Color=GREEN, Roughness=0.1), ((0, 1, 0), 1, 0, 0.1, NONE, 1)),
    "refraction": (lambda n: n.add("BsdfRefraction", Color=BLUE, Roughness=0.3), ((0, 0, 1), 1, 0, 0.3, NONE, 1)),
    "emission": (lambda n: n.add("Emission", Color=RED, Strength=3.0), (BLACK3, 1, 0, 1, (3, 0, 0), 0)),
    "principled": (
        lambda n: n.add("BsdfPrincipled", Base_Color=BLUE, Metallic=0.4, Roughness=0.7, Alpha=0.5,
                        Emission_Color=GREEN, Emission_Strength=2.0),
        ((0, 0, 1), 0.5, 0.4, 0.7, (0, 2, 0), 0),
    ),
    "constants": (
        lambda n: n.add("BsdfDiffuse", Color=n.add("Gamma", Color=(0.5, 1, 0, 1), Gamma=2.0).outputs[0]),
        ((0.25, 1, 0), 1, 0, 1, NONE, 0),
    ),
    "mix of colors": (
        lambda n: _linked(n, n.add("BsdfDiffuse", Color=RED), n.add("BsdfDiffuse", Color=BLUE), 0.25),
        ((0.75, 0, 0.25), 1, 0, 1, NONE, 0),
    ),
    "one side of a mix": (
        lambda n: _linked(n, n.add("BsdfDiffuse", Color=RED), n.add("BsdfDiffuse", Color=BLUE), 1.0),
        ((0, 0, 1), 1, 0, 1, NONE, 0),
    ),
    "what the camera sees": (
        lambda n: _linked(
            n, n.add("BsdfDiffuse", Color=RED), n.add("Emission", Color=BLUE), n.add("LightPath").outputs[0]
        ),
        (BLACK3, 1, 0, 1, (0, 0, 1), 0),
    ),
    "mix with emission": (
        lambda n: _linked(n, n.add("BsdfDiffuse", Color=RED), n.add("Emission", Color=BLUE, Strength=2.0), 0.25),
        ((0.75, 0, 0), 1, 0, 1, (0, 0, 0.5), 0),
    ),
    "mix with transparent": (
        lambda n: _linked(n, n.add("BsdfTransparent"), n.add("BsdfDiffuse", Color=RED), 0.3),
        ((1, 0, 0), 0.3, 0, 1, NONE, 0),
    ),
    "mix with transparent second": (
        lambda n: _linked(n, n.add("BsdfDiffuse", Color=RED), n.add("BsdfTransparent"), 0.3),
        ((1, 0, 0), 0.7, 0, 1, NONE, 0),
    ),
    "gray transparent": (
        lambda n: n.add("BsdfTransparent", Color=(0.25, 0.25, 0.25, 1)),
        (BLACK3, 0.75, 0, 1, NONE, 0),
    ),
    "sum with emission": (
        lambda n: _linked(n, n.add("BsdfDiffuse", Color=RED), n.add("Emission", Color=BLUE)),
        ((1, 0, 0), 1, 0, 1, (0, 0, 1), 0),
    ),
    "sum of emissions": (
        lambda n: _linked(n, n.add("Emission", Color=RED), n.add("Emission", Color=BLUE, Strength=3.0)),
        (BLACK3, 1, 0, 1, (1, 0, 3), 0),
    ),
    "a color as a shader": (lambda n: _rgb(n, (0.5, 0.25, 0, 1)), (BLACK3, 1, 0, 1, (0.5, 0.25, 0), 0)),
}  # fmt: skip


def _linked(nodes: Nodes, one: Any, two: Any, factor: Any = None) -> Any:
    """Add a Mix Shader node with a factor, or an Add Shader node without."""
    node = nodes.add("AddShader") if factor is None else nodes.add("MixShader", Fac=factor)
    for socket, shader in zip(list(node.inputs)[-2:], (one, two), strict=True):
        nodes.set(socket, shader.outputs[0])
    return node


def _rgb(nodes: Nodes, color: tuple[float, ...]) -> Any:
    node = nodes.add("RGB")
    node.outputs[0].default_value = color
    return node


@pytest.mark.parametrize("name", SHADERS)
def test_a_shader_becomes_a_material(tmp_path: Path, name: str) -> None:
    build, expected = SHADERS[name]
    material = material_of(tmp_path, lambda nodes: nodes.show(build(nodes)))
    assert fields(material) == expected
    assert material.alpha_mode is (AlphaMode.BLEND if expected[1] < 1 else AlphaMode.OPAQUE)


def sampled(clip: Clip, name: str = "base_color_texture") -> np.ndarray:
    texture = getattr(clip.materials[0], name)
    assert texture is not None, clip.warnings
    return clip.images[texture.image]


def test_an_images_alpha_between_transparent_and_a_shader_is_alpha(tmp_path: Path) -> None:
    pixels = with_alpha(255, 100, 0, 30)

    def paint(nodes: Nodes) -> None:
        image = nodes.image(add_image(pixels))
        shader = nodes.add("BsdfDiffuse", Color=image.outputs["Color"])
        nodes.show(_linked(nodes, nodes.add("BsdfTransparent"), shader, image.outputs["Alpha"]))

    clip = painted_clip(tmp_path / "a.blend", paint)
    assert not clip.warnings
    assert clip.materials[0].alpha_mode is AlphaMode.BLEND
    np.testing.assert_array_equal(sampled(clip), pixels)


def test_alpha_of_another_image_and_a_threshold(tmp_path: Path) -> None:
    mask = np.repeat(np.array([[200, 90], [10, 255]], np.uint8)[..., None], 4, axis=2)
    mask[..., 3] = 255

    def paint(nodes: Nodes, threshold: bool) -> None:
        cover = nodes.image(add_image(mask, "mask", data=True)).outputs["Color"]
        if threshold:
            test = nodes.add("Math", {"operation": "GREATER_THAN"})
            nodes.set(test.inputs[0], cover)
            nodes.set(test.inputs[1], 0.5)
            cover = test.outputs[0]
        color = nodes.image(add_image(COLORS)).outputs["Color"]
        nodes.show(nodes.add("BsdfPrincipled", Base_Color=color, Alpha=cover))

    for threshold, mode, alpha in (
        (False, AlphaMode.BLEND, mask[..., 0]),
        (True, AlphaMode.MASK, np.where(mask[..., 0] > 127, 255, 0)),
    ):
        clip = painted_clip(tmp_path / "a.blend", lambda nodes, on=threshold: paint(nodes, on))
        assert clip.materials[0].alpha_mode is mode
        np.testing.assert_array_equal(sampled(clip)[..., 3], alpha)
        np.testing.assert_array_equal(sampled(clip)[..., :3], COLORS[..., :3])


def test_channels_of_a_packed_image_are_roughness_and_metallic(tmp_path: Path) -> None:
    def paint(nodes: Nodes, swapped: bool) -> None:
        parts = nodes.add("SeparateColor", Color=nodes.image(add_image(COLORS, data=True)).outputs["Color"]).outputs
        rough, metal = (parts["Red"], parts["Green"]) if swapped else (parts["Green"], parts["Blue"])
        nodes.show(nodes.add("BsdfPrincipled", Roughness=rough, Metallic=metal))

    for swapped, channels in ((False, (1, 2)), (True, (0, 1))):
        clip = painted_clip(tmp_path / "a.blend", lambda nodes, on=swapped: paint(nodes, on))
        assert not clip.warnings
        image = sampled(clip, "metallic_roughness_texture")
        np.testing.assert_array_equal(image[..., 1:3], COLORS[..., list(channels)])
        assert (clip.materials[0].metallic, clip.materials[0].roughness) == (1, 1)


def test_factors_of_images_are_kept(tmp_path: Path) -> None:
    def paint(nodes: Nodes) -> None:
        color = nodes.image(add_image(COLORS)).outputs["Color"]
        tinted = nodes.add(
            "Mix", {"data_type": "RGBA", "blend_type": "MULTIPLY"}, A=color, B=(0.5, 1, 0.25, 1), Factor=1.0
        )
        shader = nodes.add("BsdfPrincipled", Base_Color=tinted.outputs["Result"], Emission_Color=color)
        shader.inputs["Emission Strength"].default_value = 4.0
        nodes.show(shader)

    clip = painted_clip(tmp_path / "a.blend", paint)
    (material,) = clip.materials
    assert material.base_color == (0.5, 1, 0.25)
    assert material.emissive == (4, 4, 4)
    assert len(clip.images) == 1
    np.testing.assert_array_equal(sampled(clip), COLORS)


def test_normal_maps_keep_their_bytes_and_strength(tmp_path: Path) -> None:
    def paint(nodes: Nodes) -> None:
        color = nodes.image(add_image(COLORS, data=True)).outputs["Color"]
        bump = nodes.add("Bump", Normal=nodes.add("NormalMap", Color=color, Strength=0.5).outputs[0])
        nodes.show(nodes.add("BsdfDiffuse", Normal=bump.outputs[0]))

    clip = painted_clip(tmp_path / "a.blend", paint)
    assert not clip.warnings
    assert clip.materials[0].normal_scale == 0.5
    np.testing.assert_array_equal(sampled(clip, "normal_texture"), COLORS)


@pytest.mark.parametrize("domain", ["CORNER", "POINT"])
@pytest.mark.parametrize("kind", ["BYTE_COLOR", "FLOAT_COLOR"])
def test_color_attributes_are_vertex_colors(tmp_path: Path, domain: str, kind: str) -> None:
    def prepare(item: Any) -> None:
        for name, color in (("wrong", (0, 0, 0, 1)), ("paint", (0.5, 0.25, 1, 0.5))):
            attribute = item.data.color_attributes.new(name, kind, domain)
            for value in attribute.data:
                value.color = color
        item.data.color_attributes.render_color_index = 1
        item.data.color_attributes.active_color_index = 0

    def paint(nodes: Nodes, name: str) -> None:
        node = nodes.add("VertexColor", {"layer_name": name})
        shader = nodes.add("BsdfPrincipled", Base_Color=node.outputs["Color"], Alpha=node.outputs["Alpha"])
        nodes.show(shader)

    for name in ("paint", ""):
        clip = painted_clip(tmp_path / "a.blend", lambda nodes, on=name: paint(nodes, on), prepare)
        assert not clip.warnings
        colors = clip.frames[0].topology.colors
        assert colors is not None
        np.testing.assert_allclose(colors, np.broadcast_to([0.5, 0.25, 1, 0.5], (2, 3, 4)), atol=0.004)
        assert clip.materials[0].alpha_mode is AlphaMode.BLEND
        assert clip.materials[0].base_color == (1, 1, 1)


def test_a_color_attribute_multiplies_an_image_and_misses_other_materials(tmp_path: Path) -> None:
    empty()
    one, two = rising(add_plane("one")), rising(add_plane("two"))
    two.location.x = 5
    for value in one.data.color_attributes.new("tint", "FLOAT_COLOR", "CORNER").data:
        value.color = (0.5, 1, 0, 1)
    nodes = Nodes(one)
    image = nodes.image(add_image(COLORS)).outputs["Color"]
    tint = nodes.add("Attribute", {"attribute_name": "tint"}).outputs["Color"]
    nodes.show(nodes.add("BsdfDiffuse", Color=nodes.add("MixRGB", {"blend_type": "MULTIPLY"}, Fac=1.0, Color1=image,
                                                        Color2=tint).outputs[0]))  # fmt: skip
    plain = Nodes(two, "plain")
    plain.show(plain.add("BsdfDiffuse"))
    clip = baked(tmp_path / "a.blend")
    assert not clip.warnings
    topology = clip.frames[0].topology
    assert topology.colors is not None
    for name, expected in (("paint", (0.5, 1, 0, 1)), ("plain", (1, 1, 1, 1))):
        rows = topology.material_ids == [material.name for material in clip.materials].index(name)
        np.testing.assert_allclose(topology.colors[rows], np.broadcast_to(expected, (2, 3, 4)), atol=1e-6)


def test_a_missing_color_attribute_is_black_as_it_renders(tmp_path: Path) -> None:
    def paint(nodes: Nodes) -> None:
        nodes.show(nodes.add("BsdfDiffuse", Color=nodes.add("VertexColor", {"layer_name": "lost"}).outputs["Color"]))

    clip = painted_clip(tmp_path / "a.blend", paint)
    assert any("'lost'" in warning and "'plane'" in warning for warning in clip.warnings)
    assert clip.frames[0].topology.colors is not None
    assert clip.frames[0].topology.colors[..., :3].max() == 0


def test_textures_use_the_uv_layer_of_a_render_and_the_layers_that_nodes_name(tmp_path: Path) -> None:
    def prepare(item: Any) -> None:
        for number, name in enumerate(("edited", "rendered", "named")):
            layer = item.data.uv_layers.get(name) or item.data.uv_layers.new(name=name)
            for value in layer.data:
                value.uv = (0.25 * number, 0.1)
        item.data.uv_layers.remove(item.data.uv_layers[0])
        item.data.uv_layers["rendered"].active_render = True
        item.data.uv_layers.active = item.data.uv_layers["edited"]

    def paint(nodes: Nodes) -> None:
        plain = nodes.image(add_image(COLORS, "plain")).outputs["Color"]
        named = nodes.add("UVMap", {"uv_map": "named"}).outputs[0]
        glow = nodes.image(add_image(COLORS[::-1], "glow"), Vector=named).outputs["Color"]
        nodes.show(nodes.add("BsdfPrincipled", Base_Color=plain, Emission_Color=glow, Emission_Strength=1.0))

    clip = painted_clip(tmp_path / "a.blend", paint, prepare)
    material, uvs = clip.materials[0], clip.frames[0].topology.uvs
    assert material.base_color_texture is not None
    assert material.emissive_texture is not None
    np.testing.assert_allclose(uvs[material.base_color_texture.uv_set][..., 0], 0.25, atol=1e-6)
    np.testing.assert_allclose(uvs[material.emissive_texture.uv_set][..., 0], 0.5, atol=1e-6)
    np.testing.assert_allclose(uvs[..., 1], 0.9, atol=1e-6)


def test_a_mapping_node_is_a_texture_transform(tmp_path: Path) -> None:
    def paint(nodes: Nodes) -> None:
        moved = nodes.add(
            "Mapping", Vector=nodes.add("TexCoord").outputs["UV"], Scale=(2, 3, 1), Location=(0.25, 0.5, 0)
        )
        nodes.show(nodes.add("BsdfDiffuse", Color=nodes.image(add_image(COLORS), Vector=moved.outputs[0]).outputs[0]))

    texture = material_of(tmp_path, paint).base_color_texture
    assert texture is not None
    assert (texture.scale, texture.rotation) == ((2, 3), 0)
    # Blender's v = 3 (1 − v) + 0.5 is 1 minus v of glTF.
    assert texture.offset == pytest.approx((0.25, 1 - 0.5 - 3))


def _noise(nodes: Nodes) -> None:
    nodes.show(nodes.add("BsdfDiffuse", Color=nodes.add("TexNoise").outputs["Color"]))


def _generated(nodes: Nodes) -> None:
    place = nodes.add("TexCoord").outputs["Generated"]
    nodes.show(nodes.add("BsdfDiffuse", Color=nodes.image(add_image(COLORS), Vector=place).outputs["Color"]))


def _hair(nodes: Nodes) -> None:
    nodes.show(nodes.add("BsdfHair"))


def _missing(nodes: Nodes) -> None:
    image = bpy.data.images.new("lost", 2, 2)
    image.source, image.filepath = "FILE", "//not there.png"
    nodes.show(nodes.add("BsdfDiffuse", Color=nodes.image(image).outputs["Color"]))


def _fresnel(nodes: Nodes) -> None:
    nodes.show(nodes.add("BsdfDiffuse", Color=nodes.add("Fresnel").outputs[0]))


def _volume(nodes: Nodes) -> None:
    nodes.set(nodes.output.inputs["Displacement"], nodes.add("Displacement", Height=1.0).outputs[0])
    nodes.show(nodes.add("BsdfDiffuse"))


@pytest.mark.parametrize(
    ("paint", "words"),
    [
        (_noise, ("'paint'", "'Noise Texture'", "not supported")),
        (_generated, ("'paint'", "'Image Texture'", "'Generated'", "UVs are used")),
        (_hair, ("'paint'", "'Hair BSDF'")),
        (_missing, ("'lost'", "not found")),
        (_fresnel, ("'paint'", "'Fresnel'", "depends on the view")),
        (_volume, ("'paint'", "displacement")),
        (lambda nodes: None, ("'paint'", "nothing drives")),
    ],
)
def test_what_cannot_be_read_is_a_warning_that_names_it(
    tmp_path: Path, paint: Callable[[Nodes], None], words: tuple[str, ...]
) -> None:
    clip = painted_clip(tmp_path / "a.blend", paint)
    assert any(all(word in warning for word in words) for warning in clip.warnings), clip.warnings
    assert not any(str(tmp_path) in warning or "0x" in warning for warning in clip.warnings)


def test_a_mesh_without_a_material_and_one_without_nodes(tmp_path: Path) -> None:
    empty()
    rising(add_plane("bare"))
    painted = rising(add_plane("painted"))
    material = bpy.data.materials.new("plain")
    material.diffuse_color, material.metallic, material.roughness = (0, 1, 0, 1), 0.5, 0.25
    painted.data.materials.append(material)
    clip = baked(tmp_path / "a.blend")
    found = {material.name: fields(material) for material in clip.materials}
    assert found[""] == ((0.8, 0.8, 0.8), 1, 0, 0.5, NONE, 0)
    assert found["plain"] == ((0, 1, 0), 1, 0.5, 0.25, NONE, 0)


def test_a_clip_of_transparent_materials_is_refused(tmp_path: Path) -> None:
    for build in (
        lambda nodes: nodes.add("BsdfTransparent"),
        lambda nodes: nodes.add("BsdfPrincipled", Alpha=0.0),
        lambda nodes: nodes.add(
            "BsdfPrincipled", Alpha=nodes.image(add_image(with_alpha(0, 0, 0, 0))).outputs["Alpha"]
        ),
    ):
        with pytest.raises(AssetError, match="transparent") as caught:
            painted_clip(tmp_path / "a.blend", lambda nodes, make=build: nodes.show(make(nodes)))
        assert caught.value.code is ReasonCode.EMPTY_GEOMETRY


def test_a_graph_that_multiplies_itself_is_bounded(tmp_path: Path) -> None:
    """Twenty groups, each with two uses of the next: two million nodes."""
    empty()
    nodes = Nodes(rising(add_plane()))
    below = None
    for depth in range(20):
        tree = bpy.data.node_groups.new(f"level {depth}", "ShaderNodeTree")
        tree.interface.new_socket("Color", in_out="OUTPUT", socket_type="NodeSocketColor")
        mix = tree.nodes.new("ShaderNodeMixRGB")
        for socket in (mix.inputs["Color1"], mix.inputs["Color2"]):
            use = tree.nodes.new("ShaderNodeGroup" if below else "ShaderNodeTexImage")
            if below:
                use.node_tree = below
            tree.links.new(use.outputs[0], socket)
        tree.links.new(mix.outputs[0], tree.nodes.new("NodeGroupOutput").inputs[0])
        below = tree
    group = nodes.tree.nodes.new("ShaderNodeGroup")
    group.node_tree = below
    nodes.show(nodes.add("BsdfDiffuse", Color=group.outputs[0]))
    assert any("too large" in warning for warning in baked(tmp_path / "a.blend").warnings)


def test_products_that_multiply_themselves_are_bounded(tmp_path: Path) -> None:
    def paint(nodes: Nodes) -> None:
        value = nodes.image(add_image(COLORS)).outputs["Color"]
        for _ in range(50):
            product = nodes.add("Math", {"operation": "MULTIPLY"})
            nodes.set(product.inputs[0], value)
            nodes.set(product.inputs[1], value)
            value = product.outputs[0]
        nodes.show(nodes.add("BsdfPrincipled", Base_Color=value, Roughness=value))

    assert sampled(painted_clip(tmp_path / "a.blend", paint))[..., :3].max() == 0  # powers of gray below 1
