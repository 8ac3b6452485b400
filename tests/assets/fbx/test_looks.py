"""Materials, textures and colors of FBX files written by hand; and images that are not where the file says."""

from __future__ import annotations

import base64
import zipfile
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from helix4d.assets import AlphaMode, Clip, Texture, bake
from tests.assets.fbx.ascii import AsciiFbx

pytest.importorskip("ufbx", reason="ufbx is not installed (extra 'curate')")

SQUARE = [(0, 0, 0), (4, 0, 0), (4, 4, 0), (0, 4, 0)]
UVS = """\t\tLayerElementUV: {index} {{
\t\t\tVersion: 101
\t\t\tName: "{name}"
\t\t\tMappingInformationType: "ByPolygonVertex"
\t\t\tReferenceInformationType: "IndexToDirect"
\t\t\tUV: *8 {{ a: {uvs} }}
\t\t\tUVIndex: *4 {{ a: {indices} }}
\t\t}}
"""
LAYER = "\t\tLayer: {index} {{\n\t\t\tVersion: 100\n{entries}\t\t}}\n"
ENTRY = '\t\t\tLayerElement: {{\n\t\t\t\tType: "{kind}"\n\t\t\t\tTypedIndex: {index}\n\t\t\t}}\n'


def uv_layers(*names: str, indices: str = "0,1,2,3") -> str:
    """Return UV sets: the n-th has the corners of a square at n, …, n + 1."""
    sets = []
    for n, name in enumerate(names):
        uvs = ",".join(str(n + value) for value in (0, 0, 1, 0, 1, 1, 0, 1))
        sets.append(UVS.format(index=n, name=name, uvs=uvs, indices=indices))
    layers = [LAYER.format(index=n, entries=ENTRY.format(kind="LayerElementUV", index=n)) for n in range(len(names))]
    return "".join(sets + layers)


def square(layers: str | None = None) -> tuple[AsciiFbx, int]:
    """Return a file with a square that moves, and its node."""
    file = AsciiFbx()
    node = file.node("part")
    file.mesh(node, SQUARE, [(0, 1, 2, 3)], uv_layers("first") if layers is None else layers)
    layer = file.take("move", 0, 1)
    file.animate(layer, node, "Lcl Translation", {"Z": [(0, 0), (1, 4)]})
    return file, node


def picture(path: Path, color: tuple[int, ...], size: int = 4) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGBA" if len(color) == 4 else "RGB", (size, size), color).save(path)
    return path


def base(clip: Clip, number: int = 0) -> Texture:
    texture = clip.materials[number].base_color_texture
    assert texture is not None
    return texture


@pytest.mark.parametrize(
    ("properties", "alpha"),
    [
        ({"TransparentColor": (1.0, 1.0, 1.0)}, 1.0),
        ({"TransparentColor": (0.0, 0.0, 0.0), "TransparencyFactor": 1.0}, 1.0),
        ({"TransparentColor": (1.0, 1.0, 1.0), "TransparencyFactor": 0.25}, 0.75),
        ({"TransparentColor": (0.5, 0.5, 0.5), "TransparencyFactor": 0.5}, 0.75),
        ({"TransparencyFactor": 0.25}, 0.75),
        ({"TransparentColor": (0.3, 0.3, 0.3), "TransparencyFactor": 0.25, "Opacity": 0.5}, 0.5),
        ({}, 1.0),
    ],
)
def test_how_opaque_a_material_is(tmp_path: Path, properties: dict[str, object], alpha: float) -> None:
    file, node = square()
    file.material(node, **properties, DiffuseColor=(0.1, 0.2, 0.3), DiffuseFactor=0.5)
    (material,) = bake(file.write(tmp_path / "a.fbx"), 2).materials
    assert material.alpha == pytest.approx(alpha)
    assert material.alpha_mode is (AlphaMode.OPAQUE if alpha == 1 else AlphaMode.BLEND)
    assert material.base_color == pytest.approx((0.05, 0.1, 0.15))


@pytest.mark.parametrize(
    ("opacity", "alphas"), [((64, 64, 64), {64}), ((255, 255, 255, 100), {100}), ((255, 255, 255), {255})]
)
def test_opacity_maps_become_the_alpha_of_the_base_color(
    tmp_path: Path, opacity: tuple[int, ...], alphas: set[int]
) -> None:
    picture(tmp_path / "color.png", (200, 100, 50))
    picture(tmp_path / "opacity.png", opacity, size=8)
    file, node = square()
    material = file.material(node)
    file.texture(material, "DiffuseColor", "color.png")
    file.texture(material, "TransparentColor", "opacity.png")
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    image = clip.images[base(clip).image]
    assert set(image[..., 3].reshape(-1).tolist()) == alphas
    assert image[0, 0, :3].tolist() == [200, 100, 50]
    assert clip.materials[0].alpha_mode is (AlphaMode.OPAQUE if alphas == {255} else AlphaMode.BLEND)


def test_the_alpha_of_a_base_color_counts_only_where_the_material_says_so(tmp_path: Path) -> None:
    picture(tmp_path / "color.png", (200, 100, 50, 30))
    for name, connected in (("opaque", False), ("sheer", True)):
        file, node = square()
        material = file.material(node)
        texture = file.texture(material, "DiffuseColor", "color.png")
        if connected:
            file.connect(texture, material, "TransparencyFactor")
        clip = bake(file.write(tmp_path / f"{name}.fbx"), 2)
        assert clip.materials[0].alpha_mode is (AlphaMode.BLEND if connected else AlphaMode.OPAQUE)
        if connected:
            assert clip.images[base(clip).image][0, 0].tolist() == [200, 100, 50, 30]


def test_textures_are_scaled_then_turned_then_moved(tmp_path: Path) -> None:
    picture(tmp_path / "color.png", (1, 2, 3))
    file, node = square()
    angle = 30.0
    file.texture(
        file.material(node), "DiffuseColor", "color.png", Translation=(0.1, 0.2, 0.0), Rotation=(0.0, 0.0, angle),
        Scaling=(4.0, 2.0, 1.0), WrapModeU=1, WrapModeV=0,
    )  # fmt: skip
    texture = base(bake(file.write(tmp_path / "a.fbx"), 2))
    assert (texture.wrap_u, texture.wrap_v) == ("clamp", "repeat")
    c, s = np.cos(np.radians(angle)), np.sin(np.radians(angle))
    place = np.array([[4 * c, -2 * s, 0.1], [4 * s, 2 * c, 0.2]])
    for u, v in ((0.0, 0.0), (1.0, 0.0), (0.3, 0.8)):
        expected = place @ [u, v, 1.0]
        found = texture.matrix() @ [u, 1.0 - v, 1.0]
        assert found == pytest.approx([expected[0], 1.0 - expected[1]], abs=1e-6)


def test_textures_name_their_uv_set(tmp_path: Path) -> None:
    picture(tmp_path / "color.png", (1, 2, 3))
    picture(tmp_path / "glow.png", (9, 9, 9))
    file, node = square(uv_layers("first", "second"))
    material = file.material(node, EmissiveFactor=1.0)
    file.texture(material, "DiffuseColor", "color.png", UVSet="second")
    file.texture(material, "EmissiveColor", "glow.png", UVSet="first")
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    (found,) = clip.materials
    assert found.emissive_texture is not None
    uvs = clip.frames[0].topology.uvs
    assert uvs[base(clip).uv_set].reshape(-1, 2).min(axis=0).tolist() == [1, -1]
    assert uvs[found.emissive_texture.uv_set].reshape(-1, 2).min(axis=0).tolist() == [0, 0]


def test_corners_without_uvs_have_zeros(tmp_path: Path) -> None:
    picture(tmp_path / "color.png", (1, 2, 3))
    file, node = square(uv_layers("first", indices="0,1,2,-1"))
    file.texture(file.material(node), "DiffuseColor", "color.png")
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    assert np.isfinite(clip.frames[0].topology.uvs).all()
    assert clip.frames[0].topology.uvs.max() == 1


def test_normal_maps_in_a_bump_slot_are_told_from_bumps(tmp_path: Path) -> None:
    picture(tmp_path / "normal.png", (128, 128, 255))
    Image.new("L", (4, 4), 200).save(tmp_path / "bump.png")
    for name in ("normal", "bump"):
        file, node = square()
        file.texture(file.material(node), "Bump", f"{name}.png")
        clip = bake(file.write(tmp_path / f"{name}.fbx"), 2)
        assert (clip.materials[0].normal_texture is not None) is (name == "normal")
        assert any("bump maps are not supported" in text for text in clip.warnings) is (name == "bump")


def test_lambert_is_matte_and_a_missing_material_is_gray(tmp_path: Path) -> None:
    file, node = square()
    file.material(node, shading="lambert")
    (found,) = bake(file.write(tmp_path / "a.fbx"), 2).materials
    assert (found.metallic, found.roughness, found.double_sided) == (0, 1, True)
    bare, _ = square()
    (found,) = bake(bare.write(tmp_path / "b.fbx"), 2).materials
    assert found.base_color == (0.8, 0.8, 0.8)


def test_physical_shaders_are_read(tmp_path: Path) -> None:
    """A physical material, as 3ds Max writes it: its properties have a prefix."""
    picture(tmp_path / "rough.png", (0, 90, 0))
    picture(tmp_path / "metal.png", (0, 0, 40))
    file, node = square()
    prefix = "3dsMax|Parameters|"
    properties: dict[str, object] = {"base|color": (0.2, 0.4, 0.6), "base|weight": 0.5, "metalness": 0.3}
    properties |= {"roughness": 0.7, "transparency": 0.25, "trans|ior": 1.33, "emission": 2.0}
    properties |= {"emit|color": (0.1, 0.2, 0.3), "cutout": 0.5}
    stated = {prefix + name.replace("|", "_"): value for name, value in properties.items()}
    class_id = {"3dsMax|ClassIDa": 1030429932, "3dsMax|ClassIDb": -559038463}
    material = file.material(node, shading="unknown", **class_id, **stated)
    path = file.write(tmp_path / "a.fbx")
    (found,) = bake(path, 2).materials
    assert found.base_color == pytest.approx((0.1, 0.2, 0.3))
    assert (found.metallic, found.roughness, found.alpha) == pytest.approx((0.3, 0.7, 0.5))
    assert (found.transmission, found.ior) == pytest.approx((0.25, 1.33))
    assert found.emissive == pytest.approx((0.2, 0.4, 0.6))
    file.texture(material, f"{prefix}roughness_map", "rough.png")
    file.texture(material, f"{prefix}metalness_map", "metal.png")
    clip = bake(file.write(path), 2)
    texture = clip.materials[0].metallic_roughness_texture
    assert texture is not None
    assert clip.images[texture.image][0, 0, 1:3].tolist() == [90, 40]
    assert (clip.materials[0].metallic, clip.materials[0].roughness) == (1, 1)


def test_animated_materials_are_reported(tmp_path: Path) -> None:
    file, node = square()
    material = file.material(node, DiffuseColor=(1.0, 0.0, 0.0))
    layer = file.take("fade", 0, 1)
    file.animate(layer, material, "DiffuseColor", {"X": [(0, 0), (1, 1)]})
    file.animate(layer, node, "Lcl Translation", {"Z": [(0, 0), (1, 4)]})
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    assert any("DiffuseColor is animated" in warning for warning in clip.warnings)


ELSEWHERE = ["/home/artist/textures/Color.PNG", r"C:\\Users\\artist\\tex\\color.png", "../../tex/color.png"]


@pytest.mark.parametrize("stated", ELSEWHERE)
@pytest.mark.parametrize("folder", ["textures", "deep/er/still"])
def test_images_are_found_by_name_anywhere_in_an_archive(tmp_path: Path, stated: str, folder: str) -> None:
    picture(tmp_path / "color.png", (10, 20, 30))
    file, node = square()
    file.texture(file.material(node), "DiffuseColor", stated.replace("\\\\", "\\"))
    path = file.write(tmp_path / "model.fbx")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "source/model.fbx")
        archive.write(tmp_path / "color.png", f"{folder}/color.png")
    clip = bake(tmp_path / "a.zip", 2)
    assert clip.images[base(clip).image][0, 0].tolist() == [10, 20, 30, 255]
    assert not clip.warnings


def test_of_two_images_of_a_name_the_one_with_the_stated_folders_counts(tmp_path: Path) -> None:
    file, node = square()
    file.texture(file.material(node), "DiffuseColor", "/x/body/color.png")
    path = file.write(tmp_path / "model.fbx")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.write(path, "source/model.fbx")
        for number, folder in enumerate(("aa", "body", "zz")):
            archive.write(picture(tmp_path / f"{number}.png", (number, 0, 0)), f"textures/{folder}/color.png")
    clip = bake(tmp_path / "a.zip", 2)
    assert clip.images[base(clip).image][0, 0, 0] == 1


def test_a_plain_file_searches_its_folders_for_textures_only(tmp_path: Path) -> None:
    for folder, found in (("Textures", True), ("model.fbm", True), ("other model", False)):
        home = tmp_path / folder.replace(" ", "")
        picture(home / folder / "color.png", (10, 20, 30))
        file, node = square()
        file.texture(file.material(node), "DiffuseColor", "/home/artist/color.png")
        clip = bake(file.write(home / "model.fbx"), 2)
        assert (clip.materials[0].base_color_texture is not None) is found
        assert any("'color.png': not found" in warning for warning in clip.warnings) is not found


@pytest.mark.parametrize("stated", ["{outside}/secret.png", "../outside/secret.png", "link/secret.png", "secret.png"])
def test_no_image_outside_of_the_folder_is_read(tmp_path: Path, stated: str) -> None:
    home, outside = tmp_path / "home", tmp_path / "outside"
    home.mkdir()
    picture(outside / "secret.png", (1, 2, 3))
    (home / "link").symlink_to(outside)
    (home / "secret.png").symlink_to(outside / "secret.png")
    file, node = square()
    file.texture(file.material(node), "DiffuseColor", stated.format(outside=outside))
    clip = bake(file.write(home / "a.fbx"), 2)
    assert not clip.images
    assert any("'secret.png': not found" in warning for warning in clip.warnings)


def test_names_that_no_file_can_have_are_missing_images(tmp_path: Path) -> None:
    (tmp_path / "loop.png").symlink_to("loop.png")
    picture(tmp_path / "textures" / "found.png", (1, 2, 3))
    for stated, found in (("x" * 5000 + ".png", False), ("loop.png", False), ("y" * 300 + "/found.png", True)):
        file, node = square()
        file.texture(file.material(node), "DiffuseColor", stated)
        clip = bake(file.write(tmp_path / "a.fbx"), 2)
        assert bool(clip.images) is found


def test_images_in_the_file_are_told_apart(tmp_path: Path) -> None:
    """Two embedded images have one name and one size."""
    file, node = square()
    material = file.material(node, EmissiveFactor=1.0)
    for number, prop in enumerate(("DiffuseColor", "EmissiveColor")):
        data = picture(tmp_path / "image.png", (10 * number, 0, 0)).read_bytes()
        content = f'\t\tContent: ,\n\t\t\t"{base64.b64encode(data).decode()}"'
        names = f'\t\tFileName: "C:/{number}/image.png"\n\t\tRelativeFilename: "{number}/image.png"\n'
        video = file.element("Video", "image", "Clip", names + content)
        texture = file.element("Texture", "image", "", names)
        file.connect(video, texture)
        file.connect(texture, material, prop)
    (tmp_path / "image.png").unlink()
    clip = bake(file.write(tmp_path / "a.fbx"), 2)
    emissive = clip.materials[0].emissive_texture
    assert emissive is not None
    reds = [clip.images[found.image][0, 0, 0] for found in (base(clip), emissive)]
    assert reds == [0, 10]
