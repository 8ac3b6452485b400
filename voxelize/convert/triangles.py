"""The parts of a mesh that the frames of a clip share (all but the vertices), in the layout of the kernels."""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np

from helix4d.voxelize.convert.surface import NO_MATERIALS, MaterialTable


@dataclass(frozen=True, eq=False)
class Triangles:
    """Everything of a mesh but its vertices; the arrays are contiguous.

    Attributes:
        faces: (F, 3) int32.
        edges: (E, 2) int32 boundary edges.
        names: (F,) face numbers for error messages; None for the positions in `faces`.
        materials: None for geometry alone; the fields below are then unused.
        uvs: (S, F, 3, 2) float32.
        material_ids: (F,) int32.
        colors: (F, 3, 4) float32 of the corners, or (0, 3, 4) without colors.
    """

    faces: np.ndarray
    edges: np.ndarray
    names: np.ndarray | None = None
    materials: MaterialTable | None = None
    uvs: np.ndarray = field(default_factory=lambda: np.zeros((0, 0, 3, 2), np.float32))
    material_ids: np.ndarray = field(default_factory=lambda: np.zeros(0, np.int32))
    colors: np.ndarray = field(default_factory=lambda: np.zeros((0, 3, 4), np.float32))

    @property
    def table(self) -> MaterialTable:
        """The materials, or a table of none."""
        return NO_MATERIALS if self.materials is None else self.materials
