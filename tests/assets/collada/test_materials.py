"""Materials, textures and images of documents written by hand."""

from __future__ import annotations

import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import Clip, Material, bake
from helix4d.assets.clip import AlphaMode, Wrap
from helix4d.core import AssetError, ReasonCode
from tests.assets.collada.documents import animation, document, effect, geometry, node, shown, source, write
from tests.curation.file_watch import FolderWatch

KEYS = animation("n/t.X", [0, 1], [0, 5])
SAMPLER = (
    '<newparam sid="surf"><surface type="2D"><init_from>img</init_from></surface></newparam>'
    '<newparam sid="samp"><sampler2D><source>surf</source>{}</sampler2D></newparam>'
)
TEXTURED = '<lambert><diffuse><texture texture="samp" texcoord="UV"/></diffuse></lambert>'
SQUARE = [(0, 0, 0), (1, 0, 0), (1, 1, 0), (0, 1, 0)]


def images(path: str = "tex.png") -> str:
    return f'<library_images><image id="img"><init_from>{path}</init_from></image></library_images>'


def square(sets: str = "0", colors: str = "") -> str:
    """Return a geometry of a square with UVs in each of the sets: corner k has (k / 4 + set, 0.25)."""
    extra, inputs = colors, '<input semantic="VERTEX" source="#g-v" offset="0"/>'
    for group in sets.split():
        values = [(k / 4 + int(group), 0.25) for k in range(4)]
        extra += source(f"uv{group}", values, 2)
        inputs += f'<input semantic="TEXCOORD" source="#uv{group}" offset="0" set="{group}"/>'
    inputs += '<input semantic="COLOR" source="#col" offset="0"/>' if colors else ""
    return geometry("g", SQUARE, f'<triangles material="m" count="2">{inputs}<p>0 1 2 0 2 3</p></triangles>', extra)


def baked(folder: Path, libraries: str, shape: str | None = None, binding: str = "") -> Clip:
    nodes = node("n", '<translate sid="t">0 0 0</translate>' + shown(binding=binding))
    return bake(write(folder, document(nodes, KEYS, square() if shape is None else shape, libraries)), 2)


def material_of(folder: Path, libraries: str) -> Material:
    (material,) = baked(folder, libraries).materials
    return material


def png(path: Path, pixel: tuple[int, ...] = (255, 0, 0, 255)) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    pixels = np.broadcast_to(np.array(pixel, np.uint8), (2, 2, len(pixel)))
    Image.fromarray(pixels).save(path)
    return path


def color(name: str, values: str) -> str:
    return f"<{name}><color>{values}</color></{name}>"


def number(name: str, value: float) -> str:
    return f"<{name}><float>{value}</float></{name}>"


def test_shaders(tmp_path: Path) -> None:
    shines = color("specular", "1 1 1 1") + number("shininess", 30)
    base = color("emission", "0 0.5 0 1") + color("ambient", "1 1 1 1") + color("diffuse", "0.8 0.1 0.25 1")
    for shader in ("phong", "blinn", "lambert"):
        material = material_of(tmp_path, effect(f"<{shader}>{base}{shines}</{shader}>"))
        assert material.base_color == (0.8, 0.1, 0.25)
        assert material.emissive == (0, 0.5, 0)
        assert (material.metallic, material.unlit, material.double_sided) == (0, False, True)
        assert material.roughness == pytest.approx(1 if shader == "lambert" else (2 / 32) ** 0.25)
        assert material.alpha_mode is AlphaMode.OPAQUE
    constant = material_of(tmp_path, effect(f"<constant>{base}</constant>"))
    assert (constant.base_color, constant.emissive, constant.unlit) == ((0, 0.5, 0), (0, 0, 0), True)


def test_parameters_stand_for_colors_and_numbers(tmp_path: Path) -> None:
    params = '<newparam sid="c"><float4>0.5 0.25 0 1</float4></newparam><newparam sid="f"><float>0.5</float></newparam>'
    shader = '<phong><diffuse><param ref="c"/></diffuse><transparency><param ref="f"/></transparency></phong>'
    libraries = effect(shader, params)
    material = material_of(tmp_path, libraries)
    assert (material.base_color, material.alpha) == ((0.5, 0.25, 0), 0.5)
    changed = '<instance_effect url="#e"><setparam ref="c"><float3>0 0 1</float3></setparam></instance_effect>'
    assert material_of(tmp_path, libraries.replace('<instance_effect url="#e"/>', changed)).base_color == (0, 0, 1)


BLACK, WHITE = "0 0 0 1", "1 1 1 1"


@pytest.mark.parametrize(
    ("opaque", "transparent", "transparency", "alpha"),
    [
        ("A_ONE", "0 0 0 0.25", 1, 0.25),
        ("A_ONE", "0 0 0 0.5", 0.5, 0.25),
        ("", "1 1 1 0.25", None, 0.25),
        ("", None, 0.75, 0.75),
        ("A_ZERO", "1 1 1 0.25", 1, 0.75),
        ("A_ZERO", "1 1 1 0", 1, 1),
        ("RGB_ZERO", BLACK, 1, 1),
        ("RGB_ZERO", WHITE, 0.25, 0.75),
        ("RGB_ZERO", "1 0 0 1", 1, 1 - 0.212671),
        ("RGB_ONE", WHITE, 0.25, 0.25),
        ("RGB_ONE", "0 1 0 1", 1, 0.71516),
    ],
)
def test_opacity(
    tmp_path: Path, opaque: str, transparent: str | None, transparency: float | None, alpha: float
) -> None:
    mode = f'opaque="{opaque}"' if opaque else ""
    parts = "" if transparent is None else f"<transparent {mode}><color>{transparent}</color></transparent>"
    parts += "" if transparency is None else number("transparency", transparency)
    material = material_of(tmp_path, effect(f"<phong>{color('diffuse', WHITE)}{parts}</phong>"))
    assert material.alpha == pytest.approx(alpha, abs=1e-5)
    assert material.alpha_mode is (AlphaMode.OPAQUE if alpha == 1 else AlphaMode.BLEND)


def test_without_a_mode_a_transparency_of_0_is_opaque(tmp_path: Path) -> None:
    """As in files of Autodesk's FBX COLLADA exporter; other effects of the file are read in the same way."""
    shader = f"<phong><transparent><color>{WHITE}</color></transparent>"
    shader += "<transparency><float>{}</float></transparency></phong>"
    libraries = effect(shader.format("0.000")) + effect(shader.format(0.2)).replace('"m"', '"m2"').replace('e"', 'e2"')
    nodes = node("n", '<translate sid="t">0 0 0</translate>' + shown() + shown().replace('target="#m"', 'target="#m2"'))
    clip = bake(write(tmp_path, document(nodes, KEYS, square(), libraries)), 2)
    assert [(m.alpha, m.alpha_mode) for m in clip.materials] == [(1.0, AlphaMode.OPAQUE), (0.8, AlphaMode.BLEND)]
    assert clip.warnings == ("effects without an opaque mode have a transparency of 0: they are read as opaque",)
    stated = effect(shader.replace("<transparent>", '<transparent opaque="A_ONE">').format(0))
    with pytest.raises(AssetError, match="fully transparent"):
        baked(tmp_path, stated)


def test_what_is_fully_transparent_is_refused_and_does_not_stretch_time(tmp_path: Path) -> None:
    hidden = effect('<phong><transparent opaque="RGB_ZERO"><color>1 1 1 1</color></transparent></phong>')
    with pytest.raises(AssetError) as caught:
        baked(tmp_path, hidden)
    assert caught.value.code is ReasonCode.EMPTY_GEOMETRY
    transforms = '<translate sid="t">0 0 0</translate>'
    plain = shown().replace('target="#m"', 'target="#none"')
    nodes = node("n", transforms + plain) + node("ghost", transforms + shown())
    keys = KEYS + animation("ghost/t.X", [0, 60], [0, 900])
    clip = bake(write(tmp_path, document(nodes, keys, square(), hidden)), 2)
    assert clip.times[-1] == 1
    assert len(clip.frames[0].faces) == 2
    assert "the material '#none' does not exist: white is shown" in clip.warnings


@pytest.mark.parametrize(
    ("opaque", "pixel", "alpha"),
    [
        ("A_ONE", (0, 0, 0, 64), 64),
        ("A_ZERO", (0, 0, 0, 64), 191),
        ("RGB_ZERO", (255, 255, 255, 9), 0),
        ("RGB_ZERO", (0, 255, 0, 9), 73),
        ("RGB_ONE", (0, 255, 0, 9), 182),
    ],
)
def test_textures_of_opacity(tmp_path: Path, opaque: str, pixel: tuple[int, ...], alpha: int) -> None:
    png(tmp_path / "tex.png", pixel)
    shader = f'<phong><transparent opaque="{opaque}"><texture texture="samp" texcoord="UV"/></transparent></phong>'
    libraries = images() + effect(shader, SAMPLER.format(""))
    if alpha == 0:
        with pytest.raises(AssetError, match="fully transparent"):
            baked(tmp_path, libraries)
        return
    clip = baked(tmp_path, libraries)
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert clip.images[texture.image][0, 0].tolist() == [255, 255, 255, alpha]
    assert clip.materials[0].alpha_mode is AlphaMode.BLEND


@pytest.mark.parametrize(
    ("wrap_s", "wrap_t", "expected"),
    [
        ("WRAP", "MIRROR", (Wrap.REPEAT, Wrap.MIRROR)),
        ("CLAMP", "BORDER", (Wrap.CLAMP, Wrap.CLAMP)),
        ("NONE", "WRAP", (Wrap.CLAMP, Wrap.REPEAT)),
    ],
)
def test_samplers(tmp_path: Path, wrap_s: str, wrap_t: str, expected: tuple[Wrap, Wrap]) -> None:
    png(tmp_path / "tex.png")
    options = f"<wrap_s>{wrap_s}</wrap_s><wrap_t>{wrap_t}</wrap_t><magfilter>NEAREST</magfilter>"
    clip = baked(tmp_path, images() + effect(TEXTURED, SAMPLER.format(options)))
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert (texture.wrap_u, texture.wrap_v, texture.nearest) == (*expected, True)
    assert clip.materials[0].base_color == (1, 1, 1)
    assert clip.images[texture.image][0, 0].tolist() == [255, 0, 0, 255]
    np.testing.assert_allclose(clip.frames[0].topology.uvs[0, 0], [(0, 0.75), (0.25, 0.75), (0.5, 0.75)])


def test_samplers_of_1_5_and_textures_that_name_an_image(tmp_path: Path) -> None:
    png(tmp_path / "tex.png")
    sampler = '<newparam sid="samp"><sampler2D><instance_image url="#img"/></sampler2D></newparam>'
    ref = images().replace("tex.png", "<ref>tex.png</ref>")
    assert len(baked(tmp_path, ref + effect(TEXTURED, sampler)).images) == 1
    assert len(baked(tmp_path, images() + effect(TEXTURED.replace("samp", "img"))).images) == 1
    clip = baked(tmp_path, images() + effect(TEXTURED.replace("samp", "gone")))
    assert clip.images == ()
    assert "the texture 'gone' refers to no image" in clip.warnings[0]


def test_mayas_tiling(tmp_path: Path) -> None:
    png(tmp_path / "tex.png")
    placement = (
        '<extra><technique profile="MAYA"><wrapU>1</wrapU><wrapV>0</wrapV><mirrorU>1</mirrorU><repeatU>2</repeatU>'
        "<repeatV>3</repeatV><offsetU>0.5</offsetU><offsetV>0.25</offsetV></technique></extra>"
    )
    shader = TEXTURED.replace('texcoord="UV"/>', f'texcoord="UV">{placement}</texture>')
    clip = baked(tmp_path, images() + effect(shader, SAMPLER.format("")))
    texture = clip.materials[0].base_color_texture
    assert texture is not None
    assert (texture.wrap_u, texture.wrap_v) == (Wrap.MIRROR, Wrap.CLAMP)
    u, v = texture.matrix() @ [0.75, 1 - 0.125, 1]
    assert (u, 1 - v) == pytest.approx((2 * 0.75 + 0.5, 3 * 0.125 + 0.25))


@pytest.mark.parametrize(
    ("binding", "first"),
    [
        ('<bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="1"/>', 1),
        ('<bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="7"/>', 7),
        ('<bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="5"/>', 1),
        ("", 1),
    ],
)
def test_bindings_choose_the_uv_set(tmp_path: Path, binding: str, first: int) -> None:
    png(tmp_path / "tex.png")
    clip = baked(tmp_path, images() + effect(TEXTURED, SAMPLER.format("")), square("1 7"), binding)
    assert clip.frames[0].topology.uvs.shape[0] == 1
    assert clip.frames[0].topology.uvs[0, 0, 0].tolist() == [first, 0.75]
    assert bool(clip.warnings) == ('"1"' not in binding and '"7"' not in binding)


def test_two_textures_use_two_sets(tmp_path: Path) -> None:
    png(tmp_path / "tex.png")
    glow = '<emission><texture texture="samp" texcoord="LIGHT"/></emission>'
    shader = TEXTURED.replace("<lambert>", f"<lambert>{glow}")
    binding = '<bind_vertex_input semantic="UV" input_semantic="TEXCOORD" input_set="0"/>'
    binding += '<bind_vertex_input semantic="LIGHT" input_semantic="TEXCOORD" input_set="1"/>'
    clip = baked(tmp_path, images() + effect(shader, SAMPLER.format("")), square("0 1"), binding)
    (material,) = clip.materials
    assert material.base_color_texture is not None
    assert material.emissive_texture is not None
    assert material.emissive == (1, 1, 1)
    uvs = clip.frames[0].topology.uvs[:, 0, 0]
    assert uvs[material.base_color_texture.uv_set].tolist() == [0, 0.75]
    assert uvs[material.emissive_texture.uv_set].tolist() == [1, 0.75]


@pytest.mark.parametrize("profile", ["FCOLLADA", "GOOGLEEARTH", "MAX3D", "OpenCOLLADA3dsMax"])
def test_extras_of_applications(tmp_path: Path, profile: str) -> None:
    png(tmp_path / "tex.png", (128, 128, 255))
    extra = (
        f'<extra><technique profile="{profile}"><double_sided>0</double_sided>'
        '<bump><texture texture="samp" texcoord="UV"/></bump></technique></extra>'
    )
    clip = baked(tmp_path, images() + effect("<lambert/>", SAMPLER.format(""), extra))
    (material,) = clip.materials
    assert not material.double_sided
    assert material.normal_texture is not None
    heights = extra.replace("<bump>", '<bump bumptype="HEIGHTFIELD">').replace(">0<", ">1<")
    clip = baked(tmp_path, images() + effect("<lambert/>", SAMPLER.format(""), heights))
    assert (clip.materials[0].normal_texture, clip.materials[0].double_sided) == (None, True)
    assert "a bump map with heights is not supported" in clip.warnings[0]


def test_vertex_colors_with_opacity(tmp_path: Path) -> None:
    colors = source("col", [(1, 1, 1, 1), (1, 0.5, 0, 0.5), (0, 0, 0, 1), (0, 0, 1, 1)], 4)
    clip = baked(tmp_path, effect(f"<lambert>{color('diffuse', WHITE)}</lambert>"), square(colors=colors))
    found = clip.frames[0].topology.colors
    assert found is not None
    np.testing.assert_allclose(found[0, 1], (1, 0.21404, 0, 0.5), atol=1e-4)
    assert clip.materials[0].alpha_mode is AlphaMode.BLEND
    empty = source("col", [(1, 0, 0, 0)] * 4, 4)
    clip = baked(tmp_path, effect("<lambert/>"), square(colors=empty))
    found = clip.frames[0].topology.colors
    assert found is not None
    np.testing.assert_allclose(found[..., 3], 1)


def test_equal_materials_are_one_and_missing_ones_white(tmp_path: Path) -> None:
    libraries = effect("<lambert><diffuse><color>1 0 0 1</color></diffuse></lambert>")
    libraries += '<library_materials><material id="m2"><instance_effect url="#e"/></material></library_materials>'
    second = shown().replace('target="#m"', 'target="#m2"')
    nodes = node("n", '<translate sid="t">0 0 0</translate>' + shown() + second + '<instance_geometry url="#g2"/>')
    shapes = square() + square().replace("g-", "g2-").replace('"g"', '"g2"').replace('material="m"', "")
    clip = bake(write(tmp_path, document(nodes, KEYS, shapes, libraries)), 2)
    assert [material.base_color for material in clip.materials] == [(1, 0, 0), (1, 1, 1)]
    assert clip.frames[0].topology.material_ids.tolist() == [0, 0, 0, 0, 1, 1]
    for url in ("#gone", "other.dae#m", "../other.dae#m"):
        plain = libraries.replace('id="m2"', 'id="m3"')
        missing = document(nodes.replace('target="#m2"', f'target="{url}"'), KEYS, shapes, plain)
        assert f"the material '{url}' does not exist: white is shown" in bake(write(tmp_path, missing), 2).warnings
    other = effect("<nothing/>")
    assert "no phong, blinn, lambert or constant shader" in baked(tmp_path, other).warnings[0]


# --- files ---


@pytest.mark.parametrize(
    "name",
    [
        "tex.png",
        "./tex.png",
        "maps/deep/tex.png",
        "maps\\deep\\tex.png",
        "file:///C:/Users/someone/My%20Maps/tex.png",
        "file://C:\\maps\\tex.png",
        "/home/someone/tex.png",
        "C:/maps/TEX.PNG",
        "../textures/tex.png",
    ],
)
def test_images_are_found_by_their_names(tmp_path: Path, name: str) -> None:
    place = "tex.png" if name in ("tex.png", "./tex.png") else "maps/deep/tex.png"
    png(tmp_path / "asset" / place)
    clip = baked(tmp_path / "asset", images(name) + effect(TEXTURED, SAMPLER.format("")))
    assert len(clip.images) == 1
    assert clip.warnings == ()


def test_images_in_another_folder_of_an_archive_are_found(tmp_path: Path) -> None:
    nodes = node("n", '<translate sid="t">0 0 0</translate>' + shown())
    libraries = images("C:\\work\\a b.png") + effect(TEXTURED, SAMPLER.format(""))
    write(tmp_path, document(nodes, KEYS, square(), libraries))
    png(tmp_path / "a b.png")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(tmp_path / "a.dae", "source/a.dae")
        archive.write(tmp_path / "a b.png", "textures/A B.png")
    assert len(bake(tmp_path / "a.zip", 2).images) == 1


@pytest.mark.parametrize(
    "name", ["{}", "file://{}", "file:{}", "../outside/%61.png", "<![CDATA[{}]]>", "&#x2e;./outside/a.png", "link.png"]
)
def test_no_image_outside_of_the_folder_is_opened(tmp_path: Path, name: str) -> None:
    inside, outside = tmp_path / "asset", tmp_path / "outside"
    inside.mkdir()
    png(outside / "a.png")
    (inside / "link.png").symlink_to(outside / "a.png")
    watch = FolderWatch()
    watch.add(outside)
    clip = baked(inside, images(name.format(outside / "a.png")) + effect(TEXTURED, SAMPLER.format("")))
    assert watch.escapes() == []
    watch.close()
    assert clip.images == ()
    assert "is not in the asset's folder: replaced by white" in clip.warnings[0]


def test_images_that_cannot_be_used(tmp_path: Path) -> None:
    libraries = images("a.png") + effect(TEXTURED, SAMPLER.format(""))
    clip = baked(tmp_path, libraries)
    assert (clip.images, clip.materials[0].base_color) == ((), (1, 1, 1))
    (tmp_path / "a.png").write_bytes(b"nothing")
    assert "cannot be decoded" in baked(tmp_path, libraries).warnings[0]
    for folder in ("one", "two"):
        png(tmp_path / folder / "b.png")
    ambiguous = images("/x/b.png") + effect(TEXTURED, SAMPLER.format(""))
    assert "not in the asset's folder" in baked(tmp_path, ambiguous).warnings[0]


def test_images_inside_of_the_document(tmp_path: Path) -> None:
    content = png(tmp_path / "a.png", (0, 0, 255, 255)).read_bytes().hex()
    (tmp_path / "a.png").unlink()
    for embedded in (f"<data>{content}</data>", f'<init_from><hex format="PNG">{content}</hex></init_from>'):
        library = f'<library_images><image id="img">{embedded}</image></library_images>'
        clip = baked(tmp_path, library + effect(TEXTURED, SAMPLER.format("")))
        assert clip.images[0][0, 0].tolist() == [0, 0, 255, 255]
