"""Measures what voxelization loses: a surface that crosses no grid edge has no voxel."""

from __future__ import annotations

import numpy as np

from helix4d.assets import Frame
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.kernels.coverage_kernels import surface_areas
from helix4d.voxelize.ovoxel import OVoxel, grid_side, spread_table


def vanished_area_share(frame: Frame, ovoxel: OVoxel) -> float:
    """The share (0 to 1) of a frame's area that lies in no active voxel of its O-Voxel; 0 for a frame without area.

    Specks, wires and rims thinner than a voxel are lost; wider surfaces are not.
    """
    warm_up()
    total, lost = surface_areas(
        np.ascontiguousarray(frame.vertices, np.float32),
        np.ascontiguousarray(frame.faces, np.int32),
        np.ascontiguousarray(ovoxel.coords, np.int32),
        ovoxel.resolution,
        spread_table(grid_side(ovoxel.resolution)),
    )
    return float(lost / total) if total > 0.0 else 0.0
