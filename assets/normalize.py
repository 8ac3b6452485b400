"""A clip in meters becomes a clip in the unit cube, with one scale and offset for all its frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from assets.clip import Clip, Frame
from assets.surface import surface_vertices
from core import AssetError, ReasonCode

LONGEST_SIDE = 0.99999


@dataclass(frozen=True)
class Normalization:
    """normalized = (world − center) · scale, so world = normalized / scale + center."""

    scale: float
    center: tuple[float, float, float]

    def to_world(self, points: np.ndarray) -> np.ndarray:
        """(..., 3) normalized points back in the file's units, float64."""
        return np.asarray(points, np.float64) / self.scale + np.array(self.center)

    def to_json(self) -> dict[str, Any]:
        """`{"scale": ..., "center": [x, y, z]}`."""
        return {**asdict(self), "center": list(self.center)}


def normalize(clip: Clip) -> tuple[Clip, Normalization]:
    """Center the box around all frames on the origin and make its longest side 0.99999.

    The box counts triangles with area only. A vertex outside the cube that only lines and points use (a part scaled to
    nothing somewhere far away, say) is put at the origin in that frame, so that every vertex of the result lies in
    [−0.5, 0.5]³. Thickness and attenuation distance of the materials are lengths and scale with the vertices.

    Raises:
        AssetError: empty_geometry if no triangle of any frame has area.
    """
    try:
        low, high = clip.bounds()
    except ValueError as error:
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, f"clip {clip.name!r}: {error}") from error
    center = (low + high) / 2
    scale = LONGEST_SIDE / float((high - low).max())
    frames = tuple(_normalized(frame, center, scale) for frame in clip.frames)
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


def _normalized(frame: Frame, center: np.ndarray, scale: float) -> Frame:
    vertices = ((frame.vertices.astype(np.float64) - center) * scale).astype(np.float32)
    outside = ~(np.abs(vertices) <= 0.5).all(axis=1)
    if outside.any():
        outside[surface_vertices(frame)] = False
        vertices[outside] = 0.0
    return replace(frame, vertices=vertices)
