"""Writes intact assets of every format but glTF, which the fuzzer then damages: with Blender's exporters, and by hand.

Each asset is a folder of its own: the file, and what it refers to. Names of referenced files are long, so that a path
to anywhere fits in their place.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import bpy
import numpy as np

KINDS = ("blend", "fbx", "obj", "dae", "usda")
LONG = "_" * 150
_USDA = f"""#usda 1.0
(
    defaultPrim = "World"
    endTimeCode = 24
    startTimeCode = 0
    subLayers = [
        @./sublayer{LONG}.usda@
    ]
    timeCodesPerSecond = 24
    upAxis = "Z"
)

def Xform "World"
{{
    double3 xformOp:translate.timeSamples = {{
        0: (0, 0, 0),
        24: (3, 0.5, 0),
    }}
    uniform token[] xformOpOrder = ["xformOp:translate"]

    def Mesh "Cube" (
        prepend apiSchemas = ["MaterialBindingAPI"]
    )
    {{
        int[] faceVertexCounts = [4, 4, 4, 4, 4, 4]
        int[] faceVertexIndices = [0, 1, 3, 2, 2, 3, 7, 6, 6, 7, 5, 4, 4, 5, 1, 0, 2, 6, 4, 0, 7, 3, 1, 5]
        rel material:binding = </World/Paint>
        point3f[] points.timeSamples = {{
            0: [(-1, -1, -1), (-1, -1, 1), (-1, 1, -1), (-1, 1, 1), (1, -1, -1), (1, -1, 1), (1, 1, -1), (1, 1, 1)],
            24: [(-1, -1, -1), (-1, -1, 2), (-1, 1, -1), (-1, 1, 2), (1, -1, -1), (1, -1, 2), (1, 1, -1), (1, 1, 2)],
        }}
        uniform token subdivisionScheme = "none"
    }}

    def "Referenced" (
        prepend references = @./part{LONG}.usda@</Part>
    )
    {{
    }}

    def "Paid" (
        prepend payload = @./part{LONG}.usda@</Part>
    )
    {{
        float3 xformOp:scale = (0.5, 0.5, 0.5)
        uniform token[] xformOpOrder = ["xformOp:scale"]
    }}

    def Material "Paint"
    {{
        token outputs:surface.connect = </World/Paint/Shader.outputs:surface>

        def Shader "Shader"
        {{
            uniform token info:id = "UsdPreviewSurface"
            color3f inputs:diffuseColor.connect = </World/Paint/Image.outputs:rgb>
            float inputs:roughness = 0.4
            token outputs:surface
        }}

        def Shader "Image"
        {{
            uniform token info:id = "UsdUVTexture"
            asset inputs:file = @./checker{LONG}.png@
            float3 outputs:rgb
        }}
    }}
}}
"""
_PART = """#usda 1.0
(
    defaultPrim = "Part"
)

def Mesh "Part"
{
    int[] faceVertexCounts = [3, 3]
    int[] faceVertexIndices = [0, 1, 2, 0, 2, 3]
    point3f[] points = [(0, 0, 2), (1, 0, 2), (1, 1, 2), (0, 1, 2)]
}
"""


def write_sources(folder: Path) -> None:
    """Write an asset of each of `KINDS` into the folder of that name: a textured cube that moves and grows."""
    for kind in KINDS:
        (folder / kind).mkdir(parents=True)
    _write_usd(folder / "usda")
    _write_collada(folder / "dae")
    _write_fbx(folder / "fbx")
    _write_obj(folder / "obj")
    _write_blend(folder / "blend")


def write_baits(folder: Path) -> None:
    """Write a file of each type that an asset may refer to; no asset may read them, as they are outside it."""
    folder.mkdir()
    _scene(folder, "bait.png")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "bait.blend"))
    bpy.ops.wm.collada_export(filepath=str(folder / "bait.dae"), include_animations=True)
    (folder / "bait.mtl").write_text("newmtl paint\nKd 1 0 0\n")
    (folder / "bait.usda").write_text(_PART)


def _write_usd(folder: Path) -> None:
    _scene(folder, f"checker{LONG}.png")
    (folder / "asset.usda").write_text(_USDA)
    (folder / f"part{LONG}.usda").write_text(_PART)
    (folder / f"sublayer{LONG}.usda").write_text('#usda 1.0\n\nover "World"\n{\n    custom string note = "x"\n}\n')


def _write_collada(folder: Path) -> None:
    _scene(folder, f"checker{LONG}.png")
    path = folder / "asset.dae"
    bpy.ops.wm.collada_export(filepath=str(path), include_animations=True, use_texture_copies=False)
    path.write_text(path.read_text().replace(f"{folder}/", ""))


def _write_fbx(folder: Path) -> None:
    _scene(folder, f"checker{LONG}.png")
    bpy.ops.export_scene.fbx(filepath=str(folder / "asset.fbx"), path_mode="RELATIVE", bake_anim_step=6.0)


def _write_obj(folder: Path) -> None:
    _scene(folder, f"checker{LONG}.png")
    for number in range(3):
        bpy.context.scene.frame_set(12 * number)
        path = folder / f"cube_{number}.obj"
        bpy.ops.wm.obj_export(filepath=str(path), path_mode="RELATIVE")
        text = path.read_text().replace(f"cube_{number}.mtl", f"paint{LONG}.mtl")
        path.write_text(text)
        path.with_suffix(".mtl").replace(folder / f"paint{LONG}.mtl")


def _write_blend(folder: Path) -> None:
    _scene(folder, f"checker{LONG}.png")
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / f"library{LONG}.blend"))
    cube = _scene(folder, f"checker{LONG}.png")
    texture = bpy.data.textures.new("bumps", "IMAGE")
    texture.image = bpy.data.images[0]
    displaced = cube.modifiers.new("displace", "DISPLACE")
    displaced.texture, displaced.strength = texture, 0.1
    cube.modifiers.new("subdivision", "SUBSURF").levels = 1
    with bpy.data.libraries.load(str(folder / f"library{LONG}.blend"), link=True, relative=True) as (_, linked):
        linked.meshes = ["Cube"]
    shared = bpy.data.objects.new("shared", linked.meshes[0])
    bpy.context.scene.collection.objects.link(shared)
    bpy.ops.wm.save_as_mainfile(filepath=str(folder / "asset.blend"), relative_remap=True)


def _scene(folder: Path, image_name: str) -> Any:
    """Make a scene with a cube that moves and grows, whose texture is written to the folder."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    bpy.ops.mesh.primitive_cube_add(size=2)
    cube = bpy.context.object
    cube.shape_key_add(name="Basis")
    tall = cube.shape_key_add(name="tall")
    for point in tall.data:
        point.co.z *= 2
    image = bpy.data.images.new("checker", 8, 8)
    image.pixels = np.linspace(0, 1, 256).tolist()
    image.filepath_raw, image.file_format = str(folder / image_name), "PNG"
    image.save()
    material = bpy.data.materials.new("paint")
    material.use_nodes = True
    node = material.node_tree.nodes.new("ShaderNodeTexImage")
    node.image = image
    shader = material.node_tree.nodes["Principled BSDF"]
    material.node_tree.links.new(node.outputs["Color"], shader.inputs["Base Color"])
    cube.data.materials.append(material)
    for frame, x in ((0, 0.0), (24, 3.0)):
        cube.location = (x, 0.1 * x, 0)
        cube.keyframe_insert("location", frame=frame)
        tall.value = frame / 24
        tall.keyframe_insert("value", frame=frame)
    bpy.context.scene.frame_start, bpy.context.scene.frame_end = 0, 24
    return cube
