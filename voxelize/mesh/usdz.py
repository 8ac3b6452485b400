"""Writes baked meshes as `.usdz` for Apple's and Omniverse's tools: a mesh per frame, visible in its interval."""

from __future__ import annotations

import io
import os
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from helix4d.assets import AlphaMode
from helix4d.core import ConfigError
from helix4d.core.extras import missing_package
from helix4d.voxelize.mesh.baking import BakedMesh

_DATE = 631_152_000  # 1990-01-01, within the range of ZIP
_LAYER = "clip.usdc"  # a package begins with its layer


def clip_usdz(meshes: Sequence[BakedMesh | None], fps: float, alpha_mode: AlphaMode) -> bytes:
    """Write all frames into one package: UsdPreviewSurface materials, PNG textures, Z up, meters.

    Frame f is shown from time code f to f + 1, at `fps` time codes per second.

    Args:
        meshes: one mesh per frame; None for a frame without surface.
        fps: frames per second.
        alpha_mode: how alpha is drawn; MASK has a cutoff of 0.5.

    Raises:
        ConfigError: if no frame has a mesh, or fps is not positive.
        SetupError: if usd-core is not installed.
    """
    if not fps > 0 or all(mesh is None for mesh in meshes):
        raise ConfigError(f"{len(meshes)} frames at {fps} frames per second: expected a mesh and a positive rate")
    try:
        from pxr import Sdf, Usd, UsdGeom
    except ImportError as error:
        raise missing_package("writing .usdz", "pxr") from error
    files: dict[str, bytes] = {}
    with tempfile.TemporaryDirectory(prefix="helix4d-usd-") as scratch:
        stage = Usd.Stage.CreateNew(str(Path(scratch) / _LAYER))
        UsdGeom.SetStageUpAxis(stage, UsdGeom.Tokens.z)
        UsdGeom.SetStageMetersPerUnit(stage, 1.0)
        stage.SetTimeCodesPerSecond(fps)
        stage.SetFramesPerSecond(fps)
        stage.SetStartTimeCode(0)
        stage.SetEndTimeCode(len(meshes))
        root = UsdGeom.Xform.Define(stage, "/clip")
        stage.SetDefaultPrim(root.GetPrim())
        for number, mesh in enumerate(meshes):
            if mesh is None:
                continue
            name = f"frame_{number:02d}"
            shape = _shape(stage, f"/clip/{name}", mesh)
            visibility = shape.CreateVisibilityAttr()
            for time in sorted({0, number, number + 1, len(meshes)}):
                shown = time == number or (time == len(meshes) and number == len(meshes) - 1)
                visibility.Set(UsdGeom.Tokens.inherited if shown else UsdGeom.Tokens.invisible, float(time))
            files[f"textures/{name}_base_color.png"] = _png(
                mesh.base_color[..., :3] if alpha_mode is AlphaMode.OPAQUE else mesh.base_color
            )
            files[f"textures/{name}_metallic_roughness.png"] = _png(mesh.metallic_roughness)
            _material(stage, shape, f"/clip/materials/{name}", f"textures/{name}", alpha_mode)
        stage.GetRootLayer().Save()
        for path, data in files.items():
            (Path(scratch) / path).parent.mkdir(exist_ok=True)
            (Path(scratch) / path).write_bytes(data)
        target = Path(scratch) / "clip.usdz"
        writer = Sdf.ZipFileWriter.CreateNew(str(target))
        for path in (_LAYER, *files):
            os.utime(Path(scratch) / path, (_DATE, _DATE))  # the package records them
            writer.AddFile(str(Path(scratch) / path), path)
        writer.Save()
        return target.read_bytes()


def _shape(stage: Any, path: str, mesh: BakedMesh) -> Any:
    from pxr import Sdf, UsdGeom, Vt

    shape = UsdGeom.Mesh.Define(stage, path)
    shape.CreatePointsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.vertices, np.float32)))
    shape.CreateFaceVertexCountsAttr(Vt.IntArray.FromNumpy(np.full(len(mesh.faces), 3, np.int32)))
    shape.CreateFaceVertexIndicesAttr(Vt.IntArray.FromNumpy(np.ascontiguousarray(mesh.faces.ravel(), np.int32)))
    shape.CreateNormalsAttr(Vt.Vec3fArray.FromNumpy(np.ascontiguousarray(mesh.normals, np.float32)))
    shape.SetNormalsInterpolation(UsdGeom.Tokens.vertex)
    shape.CreateSubdivisionSchemeAttr(UsdGeom.Tokens.none)
    shape.CreateDoubleSidedAttr(True)
    bounds = np.stack([mesh.vertices.min(axis=0), mesh.vertices.max(axis=0)]).astype(np.float32)
    shape.CreateExtentAttr(Vt.Vec3fArray.FromNumpy(bounds))
    uvs = np.stack([mesh.uvs[:, 0], 1 - mesh.uvs[:, 1]], axis=1).astype(np.float32)  # v up in USD
    kind = Sdf.ValueTypeNames.TexCoord2fArray
    UsdGeom.PrimvarsAPI(shape).CreatePrimvar("st", kind, UsdGeom.Tokens.vertex).Set(Vt.Vec2fArray.FromNumpy(uvs))
    return shape


def _material(stage: Any, shape: Any, path: str, texture: str, alpha_mode: AlphaMode) -> None:
    from pxr import Sdf, UsdShade

    material = UsdShade.Material.Define(stage, path)
    reader = UsdShade.Shader.Define(stage, f"{path}/uv")
    reader.CreateIdAttr("UsdPrimvarReader_float2")
    reader.CreateInput("varname", Sdf.ValueTypeNames.String).Set("st")
    place = reader.CreateOutput("result", Sdf.ValueTypeNames.Float2)
    surface = UsdShade.Shader.Define(stage, f"{path}/surface")
    surface.CreateIdAttr("UsdPreviewSurface")
    samplers = {}
    for name, space in (("base_color", "sRGB"), ("metallic_roughness", "raw")):
        sampler = samplers[name] = UsdShade.Shader.Define(stage, f"{path}/{name}")
        sampler.CreateIdAttr("UsdUVTexture")
        sampler.CreateInput("file", Sdf.ValueTypeNames.Asset).Set(Sdf.AssetPath(f"{texture}_{name}.png"))
        sampler.CreateInput("sourceColorSpace", Sdf.ValueTypeNames.Token).Set(space)
        sampler.CreateInput("st", Sdf.ValueTypeNames.Float2).ConnectToSource(place)
    links = [
        ("diffuseColor", Sdf.ValueTypeNames.Color3f, "base_color", "rgb", Sdf.ValueTypeNames.Float3),
        ("roughness", Sdf.ValueTypeNames.Float, "metallic_roughness", "g", Sdf.ValueTypeNames.Float),
        ("metallic", Sdf.ValueTypeNames.Float, "metallic_roughness", "b", Sdf.ValueTypeNames.Float),
    ]
    if alpha_mode is not AlphaMode.OPAQUE:
        links.append(("opacity", Sdf.ValueTypeNames.Float, "base_color", "a", Sdf.ValueTypeNames.Float))
    if alpha_mode is AlphaMode.MASK:
        surface.CreateInput("opacityThreshold", Sdf.ValueTypeNames.Float).Set(0.5)
    for name, kind, sampler, channel, sampled in links:
        output = samplers[sampler].CreateOutput(channel, sampled)
        surface.CreateInput(name, kind).ConnectToSource(output)
    material.CreateSurfaceOutput().ConnectToSource(surface.CreateOutput("surface", Sdf.ValueTypeNames.Token))
    UsdShade.MaterialBindingAPI.Apply(shape.GetPrim()).Bind(material)


def _png(pixels: np.ndarray) -> bytes:
    stream = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(stream, "PNG", compress_level=6)
    return stream.getvalue()
