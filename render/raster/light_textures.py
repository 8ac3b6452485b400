"""Gathered light in OpenGL: one texture of the drawn triangles, and one of the light at the points of their lattices.

A fragment finds its triangle by number, its place in the lattice from the corners, and mixes the light of three points.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import moderngl
import numpy as np

from helix4d.assets import Frame
from helix4d.render.raster.gathering import Gathering
from helix4d.render.raster.lattices import cut_triangles
from helix4d.render.raster.shaders import LIGHT_COLUMNS
from helix4d.render.scene.lighting import Lights

TRIANGLE_UNIT, LIGHT_UNIT = 7, 10
"""Texture units, after those of the materials, and between those of shadows and sky."""


class LightTextures:
    """The textures of a clip.

    Args:
        context: the current GL context.
        gathering: the clip's light.
    """

    def __init__(self, context: Any, gathering: Gathering) -> None:
        self._context = context
        self._gathering = gathering
        self._triangles: Any = None
        self._light: Any = None

    def set_topology(self, frames: Sequence[Frame], solid: np.ndarray) -> None:
        """Cut the triangles of frames with one topology; `solid` are those drawn first, in this order."""
        self._lattices = cut_triangles(frames)
        self._solid = solid
        self._triangles = self._texture(3 * len(self._lattices.cuts))
        self._light = self._texture(2 * len(self._lattices.places))

    @property
    def solid(self) -> int:
        """Number of the triangles that are drawn first."""
        return len(self._solid)

    def set_frame(self, frame: Frame) -> None:
        """Gather what does not depend on the view."""
        self._gathering.set_frame(frame, self._lattices)
        corners = np.zeros((len(self._lattices.cuts), 3, 4), np.float32)
        corners[..., :3] = frame.vertices[frame.faces]
        corners[:, 0, 3], corners[:, 1, 3] = self._lattices.starts, self._lattices.cuts
        self._corners = corners
        self._write(self._triangles, corners[self._solid])

    def set_sorted(self, faces: np.ndarray) -> None:
        """Set the order of the triangles that are drawn after the solid ones."""
        self._write(self._triangles, self._corners[np.concatenate([self._solid, faces])])
        self.use()

    def set_lights(self, lights: Lights) -> None:
        """Gather the light of a view."""
        self._write(self._light, self._gathering.light(lights)[self._lattices.places])

    def use(self) -> None:
        """Bind the textures for reading."""
        for unit, texture in ((TRIANGLE_UNIT, self._triangles), (LIGHT_UNIT, self._light)):
            self._context.clear_samplers(unit, unit + 1)
            texture.use(unit)

    def _texture(self, texels: int) -> Any:
        texture = self._context.texture((LIGHT_COLUMNS, max(-(-texels // LIGHT_COLUMNS), 1)), 4, dtype="f4")
        texture.filter = moderngl.NEAREST, moderngl.NEAREST
        return texture

    def _write(self, texture: Any, values: np.ndarray) -> None:
        """Write rows of four numbers, one per texel."""
        rows = np.ascontiguousarray(values, np.float32).reshape(-1, 4)
        whole = len(rows) // LIGHT_COLUMNS
        if whole:
            texture.write(rows[: whole * LIGHT_COLUMNS], viewport=(0, 0, LIGHT_COLUMNS, whole))
        if rest := len(rows) - whole * LIGHT_COLUMNS:
            texture.write(rows[whole * LIGHT_COLUMNS :], viewport=(0, whole, rest, 1))
