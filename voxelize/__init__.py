"""Converts mesh frames to O-Voxels and back."""

from helix4d.voxelize.convert.conversion import DualGrid, dual_grid
from helix4d.voxelize.convert.coverage import vanished_area_share
from helix4d.voxelize.convert.emission import Emissive
from helix4d.voxelize.convert.frames import Surface, prepare_surface, voxelize_clip, voxelize_frame
from helix4d.voxelize.errors import GeometryError, GpuError
from helix4d.voxelize.files.header import VxzInfo, read_vxz_info
from helix4d.voxelize.files.vxz import decode_vxz, encode_vxz, read_vxz, write_vxz
from helix4d.voxelize.kernels.compilation import warm_up
from helix4d.voxelize.mesh.extract import extract_mesh, extract_mesh_arrays
from helix4d.voxelize.ovoxel import OVoxel, morton_codes

__all__ = [
    "DualGrid",
    "Emissive",
    "GeometryError",
    "GpuError",
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
