"""A mesh frame becomes an O-Voxel and back."""

from voxelize.dual_grid import DualGrid, dual_grid
from voxelize.errors import GeometryError
from voxelize.frames import Surface, prepare_surface, voxelize_clip, voxelize_frame
from voxelize.ovoxel import OVoxel

__all__ = [
    "DualGrid",
    "GeometryError",
    "OVoxel",
    "Surface",
    "dual_grid",
    "prepare_surface",
    "voxelize_clip",
    "voxelize_frame",
]
