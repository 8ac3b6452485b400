"""Poses a stage in the clip's axes and in meters."""

from __future__ import annotations

import numpy as np
from pxr import UsdGeom

from helix4d.assets.assembly import Assembly, Local, WorldFrame
from helix4d.assets.gltf.frames import z_up
from helix4d.assets.usd.scene import Scene
from helix4d.core.arrays import Float64Array


class Frames:
    """Poses a scene.

    Args:
        scene: the scene.
        uv_sets: number of UV sets in the clip.
        max_vertices: maximum number of vertices in one frame.

    Raises:
        OverflowError: in `at`, if a frame has more vertices.
    """

    def __init__(self, scene: Scene, uv_sets: int, max_vertices: int) -> None:
        self._scene, self._max_vertices = scene, max_vertices
        stage = scene.stage
        # USD's fallback is centimeters, but without the metadata the unit is unknown: lengths are kept as stored.
        stated = UsdGeom.StageHasAuthoredMetersPerUnit(stage)
        meters = float(UsdGeom.GetStageMetersPerUnit(stage)) if stated else 1.0
        is_y_up = UsdGeom.GetStageUpAxis(stage) == UsdGeom.Tokens.y
        self._assembly = Assembly(z_up if is_y_up else np.asarray, meters, uv_sets)

    def at(self, time: float) -> WorldFrame:
        """Return the frame at a time code."""
        cache = UsdGeom.XformCache(time)
        shown: list[tuple[Local, Float64Array]] = []
        vertices = 0
        for part in self._scene.parts:
            matrices = self._scene.matrices(part, time, cache)
            local = part.shape.at(time) if len(matrices) else None
            if local is None or not len(local.surface.faces):
                continue
            vertices += len(matrices) * len(local.positions)
            if vertices > self._max_vertices:
                raise OverflowError(f"a frame has at least {vertices:,} vertices")
            shown.append((local, matrices))
        return self._assembly.frame(shown)
