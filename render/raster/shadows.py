"""Shadow maps of a view's lamps, packed into one texture."""

from __future__ import annotations

from typing import Any, Protocol

import moderngl
import numpy as np

from helix4d.render.raster.shaders import VIEW_BLOCK, view_rows
from helix4d.render.scene.lighting import Lights

LAMP_UNIT, DEPTH_UNIT = 6, 9
"""Texture units, after those of the materials: lamps' maps compared, and as plain depth."""

_LAMP_SIDE = 1024
_BORDER = 2.0  # empty texels around a map
_OFFSET_TEXELS = 1.5  # distance by which a point moves along its normal, against self-shadowing
_SLOPE_BIAS, _UNIT_BIAS = 1.5, 2.0


class Casters(Protocol):
    """Anything that can be drawn into a depth map."""

    def cast(self) -> None:
        """Draw everything that blocks light, with the current view block."""


class Shadows:
    """The shadow maps of a clip.

    Args:
        context: the current GL context.
        lamps: the largest number of point lights in any view.
    """

    def __init__(self, context: Any, lamps: int) -> None:
        self._context = context
        self._lamps = max(lamps, 1)
        self._lamp = self._map(self._lamps * _LAMP_SIDE, _LAMP_SIDE)
        # These draws read only the first member of the view block; the rest fills its declared size.
        self._view = context.buffer(reserve=16 * view_rows(lamps), dynamic=True)
        self._plain = context.sampler(filter=(moderngl.NEAREST, moderngl.NEAREST), repeat_x=False, repeat_y=False)

    def set_frame(self, bounds: np.ndarray) -> None:
        """Set the (2, 3) bounding box of a frame."""
        self._center, self._radius = bounds.mean(axis=0), 0.5 * float(np.linalg.norm(np.ptp(bounds, axis=0))) + 1e-6

    def set_view(self, casters: Casters, lights: Lights) -> np.ndarray:
        """Draw the lamps' maps of a view.

        Returns:
            (5 · lamps, 4) rows for the view block: for each lamp the matrix from world to map, column by column, then
            for each lamp the offset of a point along its normal, the nearest and the farthest depth of the map, and
            the tangent of half its view.
        """
        matrices, offsets = np.zeros((self._lamps, 4, 4)), np.zeros((self._lamps, 4))
        if lights.points:
            self._begin(self._lamp)
        for number, lamp in enumerate(lights.points):
            to_clip, side, near, far = _from_lamp(np.array(lamp.position), self._center, self._radius)
            self._cast(self._lamp, casters, to_clip, (number, 0), _LAMP_SIDE)
            matrices[number] = (_to_texture((number, 0), _LAMP_SIDE, self._lamp.size) @ to_clip).T
            texel = side * (near + far) / _LAMP_SIDE
            offsets[number] = _OFFSET_TEXELS * texel, near, far, side
        if lights.points:
            self._end()
        return np.vstack([matrices.reshape(-1, 4), offsets])

    def use(self) -> None:
        """Bind the maps for reading."""
        self._context.clear_samplers(LAMP_UNIT, LAMP_UNIT + 1)
        self._lamp.depth_attachment.use(LAMP_UNIT)
        self._lamp.depth_attachment.use(DEPTH_UNIT)
        self._plain.use(DEPTH_UNIT)

    def _map(self, width: int, height: int) -> Any:
        texture = self._context.depth_texture((width, height))
        texture.compare_func = "<="
        texture.repeat_x = texture.repeat_y = False
        texture.filter = moderngl.LINEAR, moderngl.LINEAR
        return self._context.framebuffer(depth_attachment=texture)

    def _begin(self, target: Any) -> None:
        context = self._context
        target.use()
        target.viewport = 0, 0, *target.size
        target.clear(depth=1.0)
        context.enable_only(moderngl.DEPTH_TEST)
        context.polygon_offset = _SLOPE_BIAS, _UNIT_BIAS
        self._view.bind_to_uniform_block(VIEW_BLOCK)

    def _cast(self, target: Any, casters: Casters, to_clip: np.ndarray, tile: tuple[int, int], side: int) -> None:
        target.viewport = tile[0] * side, tile[1] * side, side, side
        self._view.write(np.ascontiguousarray(to_clip.T, np.float32))
        casters.cast()

    def _end(self) -> None:
        self._context.polygon_offset = 0.0, 0.0


def _facing(direction: np.ndarray) -> np.ndarray:
    """(3, 3) rotation with -`direction` as its third row, so that depth grows away from the light."""
    helper = np.eye(3)[int(np.argmin(np.abs(direction)))]
    right = np.cross(helper, direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), -direction])


def _from_lamp(position: np.ndarray, center: np.ndarray, radius: float) -> tuple[np.ndarray, float, float, float]:
    """Project from a lamp onto the object's bounding sphere.

    Returns:
        (4, 4) matrix to clip space, tangent of half the view, nearest and farthest depth in world units.
    """
    distance = max(float(np.linalg.norm(position - center)), 1.01 * radius)
    view = np.eye(4)
    view[:3, :3] = _facing((position - center) / distance)
    view[:3, 3] = -view[:3, :3] @ position
    near, far = distance - radius, distance + radius
    near = max(near, 1e-3 * far)
    side = radius / np.sqrt(distance**2 - radius**2) / (1.0 - 2.0 * _BORDER / _LAMP_SIDE)
    projection = np.zeros((4, 4))
    projection[0, 0] = projection[1, 1] = 1.0 / side
    projection[2, 2:] = (far + near) / (far - near), -2.0 * far * near / (far - near)
    projection[3, 2] = 1.0
    return projection @ view, side, near, far


def _to_texture(tile: tuple[int, int], side: int, size: tuple[int, int]) -> np.ndarray:
    """(4, 4) from clip space to a tile of a texture, in [0, 1]."""
    matrix = np.eye(4)
    for axis in (0, 1):
        matrix[axis, axis] = 0.5 * side / size[axis]
        matrix[axis, 3] = (tile[axis] + 0.5) * side / size[axis]
    matrix[2, 2] = matrix[2, 3] = 0.5
    return matrix
