"""Maps a clip to the unit cube, with one scale and offset for all its frames."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from helix4d.assets.clip import Clip, Frame, Topology
from helix4d.assets.surface import solid
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import BoolArray, Float64Array, FloatArray

LONGEST_SIDE = 0.99999


@dataclass(frozen=True)
class Normalization:
    """The mapping from world to normalized coordinates: normalized = (world − center) · scale."""

    scale: float
    center: tuple[float, float, float]

    def to_world(self, points: FloatArray) -> Float64Array:
        """Map (..., 3) normalized points back to the units of the file, in float64."""
        world: Float64Array = np.asarray(points, np.float64) / self.scale + np.array(self.center)
        return world

    def to_json(self) -> dict[str, float | list[float]]:
        """Return `{"scale": ..., "center": [x, y, z]}`."""
        return {"scale": self.scale, "center": list(self.center)}


def normalize(clip: Clip) -> tuple[Clip, Normalization]:
    """Center the bounding box of all frames on the origin and scale its longest side to 0.99999.

    Only triangles with area count for the box. Vertices outside the cube, which can only belong to triangles without
    area (such as a part that is scaled to zero far away), are moved to the origin in that frame, so that all vertices
    of the result lie in [−0.5, 0.5]³. Triangles that would gain area that way are removed from the frame's topology.
    The thickness and attenuation distance of materials are lengths, and scale with the vertices.

    Raises:
        AssetError: empty_geometry if no triangle of any frame has area.
    """
    try:
        low, high = clip.bounds()
    except ValueError as error:
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, f"clip {clip.name!r}: {error}") from error
    center = (low + high) / 2
    scale = LONGEST_SIDE / float((high - low).max())
    opened: dict[tuple[int, bytes], Topology] = {}
    frames = tuple(_normalized(frame, center, scale, opened) for frame in clip.frames)
    materials = tuple(
        replace(
            material,
            thickness=material.thickness * scale,
            attenuation_distance=material.attenuation_distance and material.attenuation_distance * scale,
        )
        for material in clip.materials
    )
    x, y, z = (float(value) for value in center)
    return replace(clip, frames=frames, materials=materials), Normalization(scale, (x, y, z))


def _normalized(frame: Frame, center: Float64Array, scale: float, opened: dict[tuple[int, bytes], Topology]) -> Frame:
    """Normalize a frame; `opened` caches topologies with some triangles removed, so that frames share them."""
    vertices = ((frame.vertices.astype(np.float64) - center) * scale).astype(np.float32)
    outside: BoolArray = np.asarray(~(np.abs(vertices) <= 0.5).all(axis=1))
    if not outside.any():
        return replace(frame, vertices=vertices)
    shown = solid(frame)
    outside[frame.faces[shown]] = False
    vertices[outside] = 0.0
    moved = replace(frame, vertices=vertices)
    lines = ~shown & solid(moved)  # triangles that gained area: lines with a corner outside the cube
    lines &= outside[frame.faces].any(axis=1)
    if not lines.any():
        return moved
    key = id(frame.topology), lines.tobytes()
    if key not in opened:
        opened[key] = frame.topology.only(~lines)
    return replace(moved, topology=opened[key])
