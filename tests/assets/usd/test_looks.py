"""Materials, UVs, colors and geometric primitives, against values computed by hand."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pxr import Gf, Sdf, Usd, UsdGeom, UsdShade

from helix4d.assets import AlphaMode, Clip, Material, Wrap
from tests.assets.in_process import bake
from tests.assets.usd.stages import box, new_stage, slide


def baked(folder: Path, write: Callable[[Usd.Stage], None], frames: int = 2) -> Clip:
    stage = new_stage(folder / "stage.usda")
    write(stage)
    stage.Save()
    return bake(folder / "stage.usda", frames)


def surface(stage: Usd.Stage, path: str, **inputs: object) -> tuple[UsdShade.Material, UsdShade.Shader]:
    """Add a material with a UsdPreviewSurface; values are numbers or colors."""
    material = UsdShade.Material.Define(stage, path)
    shader = UsdShade.Shader.Define(stage, f"{path}/Surface")
    shader.CreateIdAttr("UsdPreviewSurface")
    for name, value in inputs.items():
        kind = Sdf.ValueTypeNames.Color3f if isinstance(value, tuple) else Sdf.ValueTypeNames.Float
        shader.CreateInput(name, kind).Set(Gf.Vec3f(*value) if isinstance(value, tuple) else value)
    material.CreateSurfaceOutput().ConnectToSource(shader.ConnectableAPI(), "surface")
    return material, shader


def bind(prim: UsdGeom.Gprim | UsdGeom.Xform | UsdGeom.Subset, material: UsdShade.Material) -> None:
    UsdShade.MaterialBindingAPI.Apply(prim.GetPrim()).Bind(material)


def moving_box(stage: Usd.Stage, path: str = "/Box") -> UsdGeom.Mesh:
    mesh = box(stage, path)
    slide(mesh)
    return mesh


def uvs(mesh: UsdGeom.Mesh, name: str = "st") -> None:
    """Add UVs of the unit square to every face of a box, per corner, v up."""
    primvar = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
        name, Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.faceVarying
    )
    primvar.Set([(0, 0), (1, 0), (1, 1), (0, 1)] * 6)


def texture(
    stage: Usd.Stage, shader: UsdShade.Shader, file: str, varname: str = "st", output: str = "rgb",
    input_name: str = "diffuseColor", **inputs: object
) -> UsdShade.Shader:  # fmt: skip
    """Connect a UsdUVTexture that is read at a primvar to an input of a surface."""
    path = shader.GetPath()
    reader = UsdShade.Shader.Define(stage, f"{path}/Reader_{input_name}")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set(varname)
    node = UsdShade.Shader.Define(stage, f"{path}/Texture_{input_name}")
    node.CreateIdAttr("UsdUVTexture")
    node.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(file)
    for name, value in inputs.items():
        kind = Sdf.ValueTypeNames.Float4 if isinstance(value, tuple) else Sdf.ValueTypeNames.Token
        node.CreateInput(name, kind).Set(value)
    node.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(reader.ConnectableAPI(), "result")
    kind = Sdf.ValueTypeNames.Color3f if output == "rgb" else Sdf.ValueTypeNames.Float
    shader.CreateInput(input_name, kind).ConnectToSource(node.ConnectableAPI(), output)
    return node


def picture(folder: Path) -> None:
    """Write a picture with a red upper and a blue lower half."""
    pixels = np.zeros((4, 4, 3), np.uint8)
    pixels[:2], pixels[2:] = (255, 0, 0), (0, 0, 255)
    Image.fromarray(pixels).save(folder / "picture.png")


def used(clip: Clip) -> list[Material]:
    """The materials of the first frame's triangles, in their order."""
    return [clip.materials[number] for number in np.unique(clip.frames[0].topology.material_ids)]


def test_a_preview_surface_becomes_a_metallic_roughness_material(tmp_path: Path) -> None:
    def write(stage: Usd.Stage) -> None:
        values = {"diffuseColor": (0.1, 0.5, 0.9), "metallic": 0.25, "roughness": 0.75, "emissiveColor": (0, 2, 0)}
        bind(moving_box(stage), surface(stage, "/M", **values)[0])

    (material,) = used(baked(tmp_path, write))
    assert material.base_color == pytest.approx((0.1, 0.5, 0.9))
    assert (material.metallic, material.roughness) == pytest.approx((0.25, 0.75))
    assert material.emissive == pytest.approx((0, 2, 0))
    assert material.alpha_mode is AlphaMode.OPAQUE


@pytest.mark.parametrize(
    ("inputs", "mode", "alpha"),
    [
        ({"opacity": 0.5}, AlphaMode.BLEND, 0.5),
        ({"opacity": 0.75, "opacityThreshold": 0.5}, AlphaMode.MASK, 0.75),
        ({}, AlphaMode.OPAQUE, 1.0),
    ],
)
def test_opacity_decides_the_alpha_mode(
    tmp_path: Path, inputs: dict[str, float], mode: AlphaMode, alpha: float
) -> None:
    (material,) = used(baked(tmp_path, lambda stage: bind(moving_box(stage), surface(stage, "/M", **inputs)[0])))
    assert (material.alpha_mode, material.alpha) == (mode, pytest.approx(alpha))


def test_a_texture_is_read_at_the_primvar_that_its_reader_names(tmp_path: Path) -> None:
    picture(tmp_path)

    def write(stage: Usd.Stage) -> None:
        mesh = moving_box(stage)
        zero = UsdGeom.PrimvarsAPI(mesh).CreatePrimvar(
            "st", Sdf.ValueTypeNames.TexCoord2fArray, UsdGeom.Tokens.constant
        )
        zero.Set([(0, 0)])
        uvs(mesh, "map2")
        material, shader = surface(stage, "/M")
        texture(stage, shader, "./picture.png", "map2", wrapS="clamp", wrapT="mirror")
        bind(mesh, material)

    clip = baked(tmp_path, write)
    (material,) = used(clip)
    found = material.base_color_texture
    assert found is not None
    assert (found.wrap_u, found.wrap_v) == (Wrap.CLAMP, Wrap.MIRROR)
    corners = clip.frames[0].topology.uvs[found.uv_set].reshape(-1, 2)
    assert {tuple(corner) for corner in corners.tolist()} == {(0, 0), (1, 0), (1, 1), (0, 1)}
    # The corner at USD's origin, v up, is glTF's (0, 1), v down: the blue half of the picture.
    image = clip.images[found.image]
    sampled = found.matrix() @ (0.1, 0.9, 1.0)
    row, column = int(sampled[1] % 1 * len(image)), int(sampled[0] % 1 * image.shape[1])
    assert tuple(image[row, column, :3]) == (0, 0, 255)


@pytest.mark.parametrize("output", ["r", "g", "b"])
def test_a_channel_of_a_texture_is_the_roughness(tmp_path: Path, output: str) -> None:
    pixels = np.full((4, 4, 3), (10, 120, 230), np.uint8)
    Image.fromarray(pixels).save(tmp_path / "picture.png")

    def write(stage: Usd.Stage) -> None:
        mesh = moving_box(stage)
        uvs(mesh)
        material, shader = surface(stage, "/M", metallic=1.0)
        texture(stage, shader, "./picture.png", output=output, input_name="roughness", sourceColorSpace="raw")
        bind(mesh, material)

    clip = baked(tmp_path, write)
    (material,) = used(clip)
    found = material.metallic_roughness_texture
    assert found is not None
    rough = clip.images[found.image][..., 1] / 255 * material.roughness
    np.testing.assert_allclose(rough, pixels[0, 0, "rgb".index(output)] / 255, atol=1 / 255)
    metal = clip.images[found.image][..., 2] / 255 * material.metallic
    np.testing.assert_allclose(metal, 1.0, atol=1 / 255)


def test_subsets_and_ancestors_bind_materials(tmp_path: Path) -> None:
    def write(stage: Usd.Stage) -> None:
        parent = UsdGeom.Xform.Define(stage, "/Parent")
        slide(parent)
        mesh = box(stage, "/Parent/Box")
        bind(parent, surface(stage, "/Red", diffuseColor=(1, 0, 0))[0])
        subset = UsdGeom.Subset.CreateGeomSubset(mesh, "top", UsdGeom.Tokens.face, [1], "materialBind")
        bind(subset, surface(stage, "/Blue", diffuseColor=(0, 0, 1))[0])

    clip = baked(tmp_path, write)
    frame = clip.frames[0]
    colors = np.array([clip.materials[number].base_color for number in frame.topology.material_ids])
    top = (frame.vertices[frame.faces][..., 2] == 1).all(axis=1)
    assert top.sum() == 2
    np.testing.assert_allclose(colors[top], [[0, 0, 1]] * 2)
    np.testing.assert_allclose(colors[~top], [[1, 0, 0]] * 10)


@pytest.mark.parametrize("interpolation", ["constant", "uniform", "vertex", "faceVarying"])
def test_display_color_and_opacity_of_every_interpolation(tmp_path: Path, interpolation: str) -> None:
    counts = {"constant": 1, "uniform": 6, "vertex": 8, "faceVarying": 24}
    values = np.random.default_rng(0).random((counts[interpolation], 4)).astype(np.float32)

    def write(stage: Usd.Stage) -> None:
        mesh = moving_box(stage)
        mesh.CreateDisplayColorPrimvar(interpolation).Set([Gf.Vec3f(*map(float, value[:3])) for value in values])
        mesh.CreateDisplayOpacityPrimvar(interpolation).Set(values[:, 3].tolist())

    clip = baked(tmp_path, write)
    colors = clip.frames[0].topology.colors
    factors = np.array([(*m.base_color, m.alpha) for m in clip.materials])[clip.frames[0].topology.material_ids]
    found = factors[:, None] * (np.ones((len(factors), 3, 4)) if colors is None else colors)
    assert {m.alpha_mode for m in used(clip)} == {AlphaMode.BLEND}
    near = np.abs(found.reshape(-1, 1, 4) - values).max(axis=2)
    assert near.min(axis=1).max() < 1e-5, "every corner has one of the colors"
    assert near.min(axis=0).max() < 1e-5, "every color is at a corner"


SOLIDS = {
    "Cube": ({"size": 3.0}, (1.5, 1.5, 1.5)),
    "Sphere": ({"radius": 2.0}, (2, 2, 2)),
    "Cylinder": ({"radius": 0.5, "height": 3.0, "axis": "X"}, (1.5, 0.5, 0.5)),
    "Cone": ({"radius": 0.5, "height": 3.0, "axis": "Y"}, (0.5, 1.5, 0.5)),
    "Capsule": ({"radius": 0.5, "height": 3.0, "axis": "Z"}, (0.5, 0.5, 2.0)),
    "Plane": ({"width": 2.0, "length": 4.0, "axis": "Z"}, (1, 2, 0)),
}
VOLUMES = {
    "Cube": 27.0,
    "Sphere": 4 / 3 * np.pi * 8,
    "Cylinder": np.pi * 0.25 * 3,
    "Cone": np.pi * 0.25 * 3 / 3,
    "Capsule": np.pi * 0.25 * 3 + 4 / 3 * np.pi * 0.125,
}


@pytest.mark.parametrize("name", SOLIDS)
def test_geometric_primitives_have_their_size_and_face_outward(tmp_path: Path, name: str) -> None:
    values, half = SOLIDS[name]

    def write(stage: Usd.Stage) -> None:
        solid = getattr(UsdGeom, name).Define(stage, "/Solid")
        for attribute, value in values.items():
            solid.GetPrim().GetAttribute(attribute).Set(value)
        slide(solid)

    frame = baked(tmp_path, write).frames[0]
    corners = frame.triangles().astype(np.float64)
    np.testing.assert_allclose(corners.min(axis=(0, 1)), [-h for h in half], atol=0.01)
    np.testing.assert_allclose(corners.max(axis=(0, 1)), half, atol=0.01)
    across = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    if name in VOLUMES:
        volume = np.einsum("fi,fi->", corners[:, 0], across) / 6
        assert volume == pytest.approx(VOLUMES[name], rel=0.02)
    length = np.linalg.norm(across, axis=1, keepdims=True)
    shading = frame.normals[frame.faces].mean(axis=1)
    assert (np.einsum("fi,fi->f", across / np.maximum(length, 1e-12), shading)[length[:, 0] > 1e-9] > 0.5).all()


def test_a_concave_polygon_is_not_covered_outside(tmp_path: Path) -> None:
    def write(stage: Usd.Stage) -> None:
        mesh = UsdGeom.Mesh.Define(stage, "/L")
        mesh.CreatePointsAttr([(0, 0, 0), (2, 0, 0), (2, 1, 0), (1, 1, 0), (1, 2, 0), (0, 2, 0)])
        mesh.CreateFaceVertexCountsAttr([6])
        mesh.CreateFaceVertexIndicesAttr(list(range(6)))
        mesh.CreateSubdivisionSchemeAttr("none")
        slide(mesh)

    corners = baked(tmp_path, write).frames[0].triangles().astype(np.float64)
    signed = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])[:, 2] / 2
    assert (signed > 0).all()
    assert signed.sum() == pytest.approx(3)
