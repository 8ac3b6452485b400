"""Blender files for tests: an object that rises by 1 m in one second, with materials made of nodes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import bpy
import numpy as np

from helix4d.assets import Clip
from tests.assets.in_process import bake

COLORS = np.array([[[255, 0, 0, 255], [0, 255, 0, 255]], [[0, 0, 255, 255], [255, 255, 0, 255]]], np.uint8)
"""An image of 2 × 2 texels, the first row on top: red, green; blue, yellow."""


def empty() -> Any:
    """Empty the session, and return its scene, which has the frames 0 to 24 at 24 frames per second."""
    bpy.ops.wm.read_factory_settings(use_empty=True)
    scene = bpy.context.scene
    scene.render.fps, scene.frame_start, scene.frame_end = 24, 0, 24
    return scene


def rising(item: Any, height: float = 1.0) -> Any:
    """Let an object rise linearly over the frames of the scene."""
    for frame, z in ((0, 0.0), (24, height)):
        item.location.z = z
        item.keyframe_insert("location", frame=frame)
    for curve in item.animation_data.action.fcurves:
        for point in curve.keyframe_points:
            point.interpolation = "LINEAR"
    return item


def add_plane(name: str = "plane", size: float = 2.0) -> Any:
    """Add a square around the origin of which the UVs go from (0, 0) to (1, 1), v up."""
    bpy.ops.mesh.primitive_plane_add(size=size)
    item = bpy.context.object
    item.name = name
    return item


def add_image(pixels: np.ndarray, name: str = "image", data: bool = False) -> Any:
    """Add a packed image of (H, W, 4) uint8 pixels, the first row on top."""
    image = bpy.data.images.new(name, pixels.shape[1], pixels.shape[0], alpha=True)
    if data:
        image.colorspace_settings.name = "Non-Color"
    image.pixels = (pixels[::-1] / 255.0).astype(np.float32).ravel()
    image.pack()
    return image


class Nodes:
    """The node tree of a new material, which starts with an output.

    Args:
        item: object that gets the material; None for none.
        name: name of the material.
    """

    def __init__(self, item: Any = None, name: str = "paint") -> None:
        self.material = bpy.data.materials.new(name)
        self.material.use_nodes = True
        self.tree = self.material.node_tree
        self.tree.nodes.clear()
        self.output = self.tree.nodes.new("ShaderNodeOutputMaterial")
        if item is not None:
            item.data.materials.append(self.material)

    def add(self, kind: str, settings: dict[str, Any] | None = None, **inputs: Any) -> Any:
        """Add a node of type `ShaderNode{kind}` and return it.

        Args:
            kind: type of the node.
            settings: its properties.
            inputs: sockets by name, with underscores for spaces: a value, or an output socket to link.
        """
        node = self.tree.nodes.new(f"ShaderNode{kind}")
        for name, value in (settings or {}).items():
            setattr(node, name, value)
        for name, value in inputs.items():
            self.set(next(s for s in node.inputs if s.enabled and s.name == name.replace("_", " ")), value)
        return node

    def set(self, socket: Any, value: Any) -> None:
        """Link an output socket, or set a value."""
        if isinstance(value, bpy.types.NodeSocket):
            self.tree.links.new(value, socket)
        else:
            socket.default_value = value

    def image(self, image: Any, settings: dict[str, Any] | None = None, **inputs: Any) -> Any:
        """Add an Image Texture node."""
        return self.add("TexImage", {"image": image, **(settings or {})}, **inputs)

    def show(self, shader: Any) -> None:
        """Let the first output of a node drive the surface."""
        self.set(self.output.inputs["Surface"], shader.outputs[0])


def baked(path: Path, frames: int = 2) -> Clip:
    """Save the session as a .blend file, and bake it."""
    bpy.ops.wm.save_as_mainfile(filepath=str(path))
    return bake(path, frames)


def painted_clip(path: Path, paint: Callable[[Nodes], None], prepare: Callable[[Any], None] = lambda _: None) -> Clip:
    """Bake a rising square with one material.

    Args:
        path: where to write the file.
        paint: builds the material.
        prepare: changes the object before.
    """
    empty()
    item = rising(add_plane())
    prepare(item)
    paint(Nodes(item))
    return baked(path)
