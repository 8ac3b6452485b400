"""A clip in meters becomes a clip in the unit cube, with one scale and offset for all its frames."""

from __future__ import annotations

from dataclasses import asdict, dataclass, replace
from typing import Any

import numpy as np

from helix4d.assets.clip import Clip, Frame, Topology
from helix4d.assets.surface import solid
from helix4d.core import AssetError, ReasonCode

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
    [−0.5, 0.5]³. A line that this would open to a triangle is left out of the frame's topology. Thickness and
    attenuation distance of the materials are lengths and scale with the vertices.

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


def _normalized(frame: Frame, center: np.ndarray, scale: float, opened: dict[tuple[int, bytes], Topology]) -> Frame:
    """`opened` collects the topologies without some lines, so that frames share them."""
    vertices = ((frame.vertices.astype(np.float64) - center) * scale).astype(np.float32)
    outside = ~(np.abs(vertices) <= 0.5).all(axis=1)
    if not outside.any():
        return replace(frame, vertices=vertices)
    shown = solid(frame)
    outside[frame.faces[shown]] = False
    vertices[outside] = 0.0
    moved = replace(frame, vertices=vertices)
    lines = ~shown & solid(moved)  # lines that had corners on the surface and one outside
    lines &= outside[frame.faces].any(axis=1)
    if not lines.any():
        return moved
    key = id(frame.topology), lines.tobytes()
    if key not in opened:
        opened[key] = _without(frame.topology, lines)
    return replace(moved, topology=opened[key])


def _without(topology: Topology, faces: np.ndarray) -> Topology:
    """The topology without some of its (F,) bool faces."""
    return Topology(
        faces=topology.faces[~faces],
        uvs=np.ascontiguousarray(topology.uvs[:, ~faces]),
        material_ids=topology.material_ids[~faces],
        colors=None if topology.colors is None else topology.colors[~faces],
    )
