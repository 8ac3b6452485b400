"""A mesh frame becomes an O-Voxel and back."""

from voxelize.compilation import warm_up
from voxelize.conversion import DualGrid, dual_grid
from voxelize.coverage import vanished_area_share
from voxelize.errors import GeometryError
from voxelize.frames import Surface, prepare_surface, voxelize_clip, voxelize_frame
from voxelize.mesh import extract_mesh, extract_mesh_arrays
from voxelize.ovoxel import OVoxel, morton_codes
from voxelize.vxz import VxzInfo, decode_vxz, encode_vxz, read_vxz, read_vxz_info, write_vxz

__all__ = [
    "DualGrid",
    "GeometryError",
    "OVoxel",
    "Surface",
    "VxzInfo",
    "decode_vxz",
    "dual_grid",
    "encode_vxz",
    "extract_mesh",
    "extract_mesh_arrays",
    "morton_codes",
    "prepare_surface",
    "read_vxz",
    "read_vxz_info",
    "vanished_area_share",
    "voxelize_clip",
    "voxelize_frame",
    "warm_up",
    "write_vxz",
]
