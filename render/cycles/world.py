"""Blender's world: a uniform color, or an environment map rotated about Z."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import bpy
import numpy as np

from helix4d.render.scene.environment import EnvironmentMap
from helix4d.render.scene.lighting import Lights


class World:
    """The environment of a scene.

    Args:
        scene: the Blender scene.
        maps: sha256 -> map, for the lights that name one.
    """

    def __init__(self, scene: Any, maps: Mapping[str, EnvironmentMap]) -> None:
        scene.world = bpy.data.worlds.new("environment")
        scene.world.use_nodes = True
        self._tree = scene.world.node_tree
        self._background = self._tree.nodes["Background"]
        self._images = {sha256: _image(environment) for sha256, environment in maps.items()}
        self._sampling = scene.world.cycles
        # The default evaluates 4096 x 2048 points whenever a view rotates the map: 1.5 s per image. Two points per
        # texel give the same noise; one gives 1 to 2 dB more, because texels are interpolated.
        self._sampling.sampling_method = "MANUAL"
        if maps:
            place = self._tree.nodes.new("ShaderNodeTexCoord")
            self._turn = self._tree.nodes.new("ShaderNodeMapping")
            self._texture = self._tree.nodes.new("ShaderNodeTexEnvironment")
            self._tree.links.new(place.outputs["Generated"], self._turn.inputs["Vector"])
            self._tree.links.new(self._turn.outputs["Vector"], self._texture.inputs["Vector"])

    def show(self, lights: Lights) -> None:
        """Set the environment of a view."""
        color, strength = self._background.inputs["Color"], self._background.inputs["Strength"]
        placed = lights.environment_map
        for link in list(color.links):
            self._tree.links.remove(link)
        if placed is None:
            color.default_value = (*lights.environment_color, 1.0)
            strength.default_value = lights.environment_radiance
            return
        self._texture.image = self._images[placed.sha256]
        self._sampling.sample_map_resolution = 2 * self._texture.image.size[0]
        self._turn.inputs["Rotation"].default_value = (0.0, 0.0, -placed.turn)
        self._tree.links.new(self._texture.outputs["Color"], color)
        strength.default_value = placed.scale


def _image(environment: EnvironmentMap) -> Any:
    height, width = environment.radiance.shape[:2]
    image = bpy.data.images.new("environment", width, height, float_buffer=True, is_data=True)
    pixels = np.ones((height, width, 4), np.float32)
    pixels[..., :3] = environment.radiance[::-1]  # Blender's first row is the lowest
    image.pixels.foreach_set(pixels.ravel())
    image.update()
    return image
