"""No file outside the asset's folder is opened by a stage, however a layer refers to it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from pxr import Sdf, Usd, UsdGeom, UsdShade

from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from tests.assets.in_process import bake, list_clips
from tests.assets.usd.stages import box, keys, new_stage, slide


def outside(tmp_path: Path) -> tuple[Path, Usd.Stage]:
    """Write a stage in `inside/`, and beside that folder a secret layer that the stage must not read."""
    secret = new_stage(tmp_path / "secret.usda")
    slide(box(secret, "/Part/Mesh"))
    secret.SetDefaultPrim(secret.GetPrimAtPath("/Part"))
    secret.Save()
    folder = tmp_path / "inside"
    folder.mkdir()
    stage = new_stage(folder / "a.usda")
    slide(box(stage, "/Own"))
    return folder, stage


def reference(stage: Usd.Stage, folder: Path) -> None:
    stage.DefinePrim("/R").GetReferences().AddReference("../secret.usda")


def absolute(stage: Usd.Stage, folder: Path) -> None:
    stage.DefinePrim("/R").GetReferences().AddReference(str(folder.parent / "secret.usda"))


def payload(stage: Usd.Stage, folder: Path) -> None:
    stage.DefinePrim("/R").GetPayloads().AddPayload("sub/../../secret.usda")


def sublayer(stage: Usd.Stage, folder: Path) -> None:
    stage.GetRootLayer().subLayerPaths.append("../secret.usda")


def url(stage: Usd.Stage, folder: Path) -> None:
    stage.DefinePrim("/R").GetReferences().AddReference("http://example.com/a.usda")


def drive(stage: Usd.Stage, folder: Path) -> None:
    stage.DefinePrim("/R").GetReferences().AddReference("C:/secret.usda")


def unselected_variant(stage: Usd.Stage, folder: Path) -> None:
    chosen = stage.DefinePrim("/R").GetVariantSets().AddVariantSet("v")
    for name in ("bad", "good"):
        chosen.AddVariant(name)
    chosen.SetVariantSelection("bad")
    with chosen.GetVariantEditContext():
        stage.GetPrimAtPath("/R").GetReferences().AddReference("../secret.usda")
    chosen.SetVariantSelection("good")


def inactive(stage: Usd.Stage, folder: Path) -> None:
    reference(stage, folder)
    stage.GetPrimAtPath("/R").SetActive(False)


def indirect(stage: Usd.Stage, folder: Path) -> None:
    between = new_stage(folder / "between.usdc")
    reference(between, folder)
    between.SetDefaultPrim(between.GetPrimAtPath("/R"))
    between.Save()
    stage.DefinePrim("/R").GetReferences().AddReference("./between.usdc")


def link(stage: Usd.Stage, folder: Path) -> None:
    (folder / "link.usda").symlink_to(folder.parent / "secret.usda")
    stage.DefinePrim("/R").GetReferences().AddReference("./link.usda")


def clip(stage: Usd.Stage, folder: Path) -> None:
    clips = Usd.ClipsAPI(box(stage, "/Clips").GetPrim())
    clips.SetClipAssetPaths([Sdf.AssetPath("../secret.usda")])
    clips.SetClipPrimPath("/Part/Mesh")
    clips.SetClipActive([(0, 0)])


def clip_template(stage: Usd.Stage, folder: Path) -> None:
    (folder / "clip.1.usda").symlink_to(folder.parent / "secret.usda")
    clips = Usd.ClipsAPI(box(stage, "/Clips").GetPrim())
    clips.SetClipTemplateAssetPath("./clip.#.usda")
    clips.SetClipTemplateStartTime(1)
    clips.SetClipTemplateEndTime(1)
    clips.SetClipTemplateStride(1)
    clips.SetClipPrimPath("/Part/Mesh")


def clip_template_elsewhere(stage: Usd.Stage, folder: Path) -> None:
    clip_template(stage, folder)
    (folder / "clip.1.usda").unlink()
    Usd.ClipsAPI(stage.GetPrimAtPath("/Clips")).SetClipTemplateAssetPath("../secret.#.usda")


def expression(stage: Usd.Stage, folder: Path) -> None:
    stage.GetRootLayer().expressionVariables = {"NAME": "../secret"}
    stage.DefinePrim("/R").GetReferences().AddReference('`"${NAME}.usda"`')


def texture(stage: Usd.Stage, folder: Path) -> None:
    Image.new("RGB", (2, 2)).save(folder.parent / "secret.png")
    material = UsdShade.Material.Define(stage, "/M")
    shader, node = UsdShade.Shader.Define(stage, "/M/S"), UsdShade.Shader.Define(stage, "/M/T")
    shader.CreateIdAttr("UsdPreviewSurface")
    node.CreateIdAttr("UsdUVTexture")
    node.CreateInput("file", Sdf.ValueTypeNames.Asset).Set("../secret.png")
    colors = node.CreateOutput("rgb", Sdf.ValueTypeNames.Float3)
    shader.CreateInput("diffuseColor", Sdf.ValueTypeNames.Color3f).ConnectToSource(colors)
    material.CreateSurfaceOutput().ConnectToSource(shader.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(stage.GetPrimAtPath("/Own")).Bind(material)


ATTACKS = (
    *(reference, absolute, payload, sublayer, url, drive, unselected_variant, inactive, indirect, link, clip),
    *(clip_template, clip_template_elsewhere, expression, texture),
)


@pytest.mark.parametrize("attack", ATTACKS)
def test_references_outside_the_folder_are_refused(attack: Callable[[Usd.Stage, Path], None], tmp_path: Path) -> None:
    folder, stage = outside(tmp_path)
    attack(stage, folder)
    stage.Save()
    with pytest.raises(AssetError) as caught:
        bake(folder / "a.usda")
    assert caught.value.code is ReasonCode.URI_OUTSIDE_ASSET
    assert str(tmp_path) not in str(caught.value).replace(f"'{tmp_path}/secret.usda'", "")


@pytest.mark.skipif(sys.platform != "linux", reason="reads what is open from /proc")
@pytest.mark.parametrize("attack", [reference, payload, sublayer, unselected_variant, indirect, link, clip])
def test_refused_files_are_never_opened(attack: Callable[[Usd.Stage, Path], None], tmp_path: Path) -> None:
    """A FIFO in place of the secret layer blocks whoever opens it."""
    folder, stage = outside(tmp_path)
    attack(stage, folder)
    stage.Save()
    (tmp_path / "secret.usda").unlink()
    os.mkfifo(tmp_path / "secret.usda")
    code = (
        "import sys; from pathlib import Path; from helix4d.assets import list_clips\n"
        "try: list_clips(Path(sys.argv[1]))\nexcept Exception as error: print(error)"
    )
    command = [sys.executable, "-c", code, str(folder / "a.usda")]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=60, check=True)
    assert "uri_outside_asset" in ended.stdout


def test_files_in_subfolders_and_parent_paths_inside_the_folder_are_read(tmp_path: Path) -> None:
    folder, stage = outside(tmp_path)
    (folder / "x y").mkdir()
    below = new_stage(folder / "x y" / "b[1].usda")
    below.DefinePrim("/R").GetReferences().AddReference("../c.usda")
    below.SetDefaultPrim(below.GetPrimAtPath("/R"))
    below.Save()
    part = new_stage(folder / "c.usda")
    slide(box(part, "/Part/Mesh"), (0, 0, 30))
    part.SetDefaultPrim(part.GetPrimAtPath("/Part"))
    part.Save()
    stage.DefinePrim("/R").GetReferences().AddReference("./x y/b[1].usda")
    stage.Save()
    assert bake(folder / "a.usda").bounds()[1, 2] == pytest.approx(31)


@pytest.mark.parametrize(
    ("text", "code"),
    [
        ('def Mesh "a" (references = @./gone.usda@) {}', ReasonCode.MISSING_BUFFER),
        ('def Mesh "a" (payload = @./broken.usda@) {}', ReasonCode.MISSING_BUFFER),
        ('def Mesh "a" (references = </b>) {}\ndef Mesh "b" (references = </a>) {}', ReasonCode.INVALID_SCENE_GRAPH),
        ('def Mesh "a" (references = </nothing>) {}', ReasonCode.INVALID_SCENE_GRAPH),
        ("def Mesh {", ReasonCode.CORRUPT_FILE),
    ],
)
def test_broken_composition_is_refused(text: str, code: ReasonCode, tmp_path: Path) -> None:
    (tmp_path / "a.usda").write_text(f"#usda 1.0\n{text}\n")
    (tmp_path / "broken.usda").write_text("#usda 1.0\n{{{\n")
    with pytest.raises(AssetError) as caught:
        list_clips(tmp_path / "a.usda")
    assert caught.value.code is code
    assert str(tmp_path) not in str(caught.value)
    assert "0x" not in str(caught.value)


def test_a_missing_file_of_an_unselected_variant_is_not_needed(tmp_path: Path) -> None:
    _, stage = outside(tmp_path)
    chosen = stage.DefinePrim("/R").GetVariantSets().AddVariantSet("v")
    for name in ("bad", "good"):
        chosen.AddVariant(name)
    chosen.SetVariantSelection("bad")
    with chosen.GetVariantEditContext():
        stage.GetPrimAtPath("/R").GetReferences().AddReference("./gone.usda")
    chosen.SetVariantSelection("good")
    stage.Save()
    bake(tmp_path / "inside" / "a.usda")


def test_sizes_and_counts_are_bounded(tmp_path: Path) -> None:
    folder, stage = outside(tmp_path)
    part = new_stage(folder / "part.usda")
    keys(box(part, "/P").GetPointsAttr(), {code: [(code, 0, 0)] * 8 for code in range(100)})
    part.SetDefaultPrim(part.GetPrimAtPath("/P"))
    part.Save()
    stage.DefinePrim("/R").GetReferences().AddReference("./part.usda")
    stage.Save()
    size = (folder / "a.usda").stat().st_size
    for limits in (Limits(file_bytes=size + 100), Limits(nodes=1), Limits(frame_vertices=20)):
        with pytest.raises(AssetError) as caught:
            bake(folder / "a.usda", limits=limits)
        assert caught.value.code is ReasonCode.OUT_OF_MEMORY


def test_a_file_is_read_again_after_it_changed(tmp_path: Path) -> None:
    path = tmp_path / "a.usda"
    heights = []
    kept = []
    for height in (1.0, 5.0):
        stage = Usd.Stage.CreateInMemory()
        UsdGeom.SetStageUpAxis(stage, "Z")
        slide(box(stage, "/Mesh"), (0, 0, height))
        stage.Export(str(path))
        os.utime(path, (height * 1e9, height * 1e9))
        kept.append(Usd.Stage.Open(str(path)))
        heights.append(float(bake(path).bounds()[1, 2]))
    np.testing.assert_allclose(heights, [2.0, 6.0])


@pytest.mark.parametrize("text", [b'#usda 1.0\ndef Mesh "\x86"\n{\n}\n', b'#usda 1.0\n(\n    doc = "\xee\x86\n)\n'])
def test_text_that_is_not_utf_8_is_corrupt(tmp_path: Path, text: bytes) -> None:
    (tmp_path / "asset.usda").write_bytes(text)
    with pytest.raises(AssetError) as raised:
        bake(tmp_path / "asset.usda", 2)
    assert raised.value.code is ReasonCode.CORRUPT_FILE
