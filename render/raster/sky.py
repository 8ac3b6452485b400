"""The environment's light in OpenGL: maps prefiltered per roughness, and the background behind glass.

A uniform environment needs no map; where other views have one, it uses a map of ones.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import moderngl
import numpy as np

from helix4d.render.raster.shaders import SKY_LAYERS
from helix4d.render.scene.cameras import Camera
from helix4d.render.scene.environment import EnvironmentMap, shrink, texel_directions, turned
from helix4d.render.scene.lighting import Lights

MAP_UNIT = 8
"""Texture unit, after those of the shadows."""

_WIDTH = 256
_BROAD = 64  # columns, enough for all but the narrowest lobes
_UNIFORM = ""

_BEHIND_VERTEX = """
#version 400 core
out vec2 place;  // pixels over the image's size
void main() {
    place = vec2(gl_VertexID == 1 ? 2.0 : 0.0, gl_VertexID == 2 ? 2.0 : 0.0);
    gl_Position = vec4(2.0 * place - 1.0, 1.0, 1.0);
}
"""
_BEHIND_FRAGMENT = f"""
#version 400 core
uniform sampler3D sky_map;
uniform mat3 ray;  // from pixels over the image's size to directions before the turn
uniform float scale;
in vec2 place;
out vec4 color;
void main() {{
    vec3 d = normalize(ray * vec3(place, 1.0));
    vec2 uv = vec2(0.5 - atan(d.y, d.x) / 6.28318531, acos(clamp(d.z, -1.0, 1.0)) / 3.14159265);
    color = vec4(scale * textureLod(sky_map, vec3(uv, 0.5 / {SKY_LAYERS + 1}.0), 0.0).rgb, 0.0);
}}
"""


class Sky:
    """Environment maps in a GL context, each filtered when a view first needs it.

    Args:
        context: the current GL context.
        maps: sha256 -> map.
    """

    def __init__(self, context: Any, maps: Mapping[str, EnvironmentMap]) -> None:
        self._context = context
        self._maps = maps
        self._textures: dict[str, Any] = {}
        self._behind: tuple[Any, Any] | None = None

    def use(self, lights: Lights) -> None:
        """Bind the map of a view for reading."""
        self._lights = lights
        if self._maps:
            self._context.clear_samplers(MAP_UNIT, MAP_UNIT + 1)
            self._texture(lights).use(MAP_UNIT)

    def values(self, lights: Lights) -> np.ndarray:
        """(2, 4) rows of the view block: radiance or scale, and rotation."""
        rows = np.zeros((2, 4))
        placed = lights.environment_map
        if placed is None:
            rows[0, :3] = lights.environment_radiance * np.array(lights.environment_color)
            rows[1, 0] = 1.0
            return rows
        rows[0, :3] = placed.scale
        rows[1, :2] = np.cos(placed.turn), np.sin(placed.turn)
        return rows

    def draw(self, camera: Camera) -> None:
        """Fill the current framebuffer with the environment map as background."""
        placed = self._lights.environment_map
        if placed is None:
            raise ValueError("a view without an environment map has a uniform background")
        if self._behind is None:
            program = self._context.program(vertex_shader=_BEHIND_VERTEX, fragment_shader=_BEHIND_FRAGMENT)
            program["sky_map"].value = MAP_UNIT
            self._behind = program, self._context.vertex_array(program, [])
        program, triangle = self._behind
        to_pixels = np.diag([1.0 / camera.image_size] * 2 + [1.0]) @ camera.intrinsics
        rays = camera.extrinsics[:3, :3].T @ np.linalg.inv(to_pixels)  # columns, so `turned` takes the transpose
        program["ray"].write(turned(rays.T, -placed.turn).astype(np.float32).tobytes())
        program["scale"].value = placed.scale
        self._context.enable_only(moderngl.NOTHING)
        triangle.render(moderngl.TRIANGLES, vertices=3)

    def _texture(self, lights: Lights) -> Any:
        placed = lights.environment_map
        name = _UNIFORM if placed is None else placed.sha256
        if name not in self._textures:
            uniform = np.ones((SKY_LAYERS + 1, 1, 1, 3), np.float32)
            layers = uniform if placed is None else filter_map(self._maps[name])
            depth, height, width = layers.shape[:3]
            texture = self._context.texture3d((width, height, depth), 3, layers.tobytes(), dtype="f4")
            texture.filter = moderngl.LINEAR, moderngl.LINEAR
            texture.repeat_x, texture.repeat_y, texture.repeat_z = True, False, False
            self._textures[name] = texture
        return self._textures[name]


def filter_map(environment: EnvironmentMap) -> np.ndarray:
    """(SKY_LAYERS + 1, H, W, 3) float32 radiance filtered for GGX mirrors of growing roughness and matte surfaces.

    Lobes are those of a mirror viewed from straight above (Karis, Real Shading in Unreal Engine 4).
    """
    layers = [_enlarge(shrink(environment.radiance, width), _WIDTH) for width in (_WIDTH, _WIDTH // 2)]
    directions, _ = texel_directions(_BROAD // 2)
    for layer in range(len(layers), SKY_LAYERS):
        layers.append(_enlarge(_filter(environment, directions, (layer / (SKY_LAYERS - 1)) ** 4), _WIDTH))
    matte = environment.irradiance(directions.reshape(-1, 3)).reshape(directions.shape) / np.pi
    layers.append(_enlarge(matte.astype(np.float32), _WIDTH))
    return np.ascontiguousarray(layers, np.float32)


def _filter(environment: EnvironmentMap, directions: np.ndarray, alpha2: float) -> np.ndarray:
    """(H, W, 3) radiance reflected by GGX mirrors of the given alpha² that face the (H, W, 3) directions."""
    light, sources, angles = environment.coarse
    rows = []
    for row in directions:
        cosine = row @ sources.T
        half2 = 0.5 + 0.5 * cosine  # squared cosine of half the angle
        lobe = np.maximum(cosine, 0.0) / np.square(half2 * (alpha2 - 1.0) + 1.0) * angles
        rows.append(lobe @ light / lobe.sum(axis=1, keepdims=True))
    return np.asarray(rows, np.float32)


def _enlarge(light: np.ndarray, width: int) -> np.ndarray:
    """Resample (H, W, 3) to (width / 2, width, 3): bilinear, wrapping in longitude, clamped at the poles."""
    height = light.shape[0]
    for axis, (count, size) in enumerate(((width // 2, height), (width, 2 * height))):
        place = (np.arange(count) + 0.5) * size / count - 0.5
        low = np.floor(place).astype(int)
        share = (place - low).astype(np.float32).reshape((-1, 1, 1) if axis == 0 else (1, -1, 1))
        ends = [(low + step) % size if axis else np.clip(low + step, 0, size - 1) for step in (0, 1)]
        light = np.take(light, ends[0], axis) * (1 - share) + np.take(light, ends[1], axis) * share
    return light
