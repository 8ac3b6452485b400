"""Brings a generated surface to another size or resolution, as an O-Voxel and as a mesh."""

from __future__ import annotations

import itertools

import numpy as np

from helix4d.core import ConfigError
from helix4d.model.latents.decode import GeneratedFrame
from helix4d.voxelize import OVoxel, dual_grid, extract_mesh
from helix4d.voxelize.mesh.baking import sample_attributes
from helix4d.voxelize.mesh.cleaning import orient_faces

_SPREAD = 0.25  # of a voxel, in both directions along each axis


def resample(frame: GeneratedFrame, resolution: int, scale: float = 1.0) -> OVoxel:
    """Voxelize a frame's surface, scaled about the origin, at a resolution.

    Each voxel gets the mean attributes of the frame around its vertex, over half a voxel along each axis.

    Raises:
        ConfigError: if the scale is not in (0, 1], or nothing is left of the surface.
    """
    if not 0 < scale <= 1:
        raise ConfigError(f"anchor scale is {scale}: must be in (0, 1]")
    # Decoded vertices may lie outside their voxels and, at the border, outside the cube.
    inside = np.clip(frame.vertices * np.float32(scale), -0.5, 0.5)
    grid = dual_grid(inside, frame.faces, resolution)
    if not len(grid.coords):
        raise ConfigError(f"scaled by {scale:.3f}, the anchor has no voxel left")
    source = frame.ovoxel
    paint = np.concatenate([source.base_color, source.metallic, source.roughness, source.alpha], axis=1)
    points = (grid.coords + grid.dual_vertices) / resolution - 0.5
    values = np.zeros((len(points), paint.shape[1]), np.float32)
    for signs in itertools.product((-_SPREAD, _SPREAD), repeat=3):
        near = np.clip((points + np.array(signs) / resolution) / scale, -0.5, 0.5)
        values += sample_attributes(near.astype(np.float32), source, paint) / 8
    rounded = np.round(values).astype(np.uint8)
    channels = (np.ascontiguousarray(part) for part in np.split(rounded, (3, 4, 5), axis=1))
    return OVoxel(resolution, grid.coords, grid.dual_vertices, grid.intersected, *channels)


def frame_of(ovoxel: OVoxel) -> GeneratedFrame:
    """Return an O-Voxel with its surface."""
    vertices, faces = extract_mesh(ovoxel)
    return GeneratedFrame(ovoxel, vertices, orient_faces(vertices, faces))
