"""Pictures of O-Voxels without Blender: the mesh drawn with a depth buffer, in milliseconds.

For inspection, not for training: lit from the camera, without shadows. Alpha is the coverage of the mesh times the
voxels' alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.render.pages.picture_kernels import nearest_faces, shade
from helix4d.render.scene.cameras import Camera
from helix4d.voxelize import OVoxel, extract_mesh

SAMPLES = 4
"""Samples per side of a pixel."""

_AMBIENT = 0.4


@dataclass(frozen=True, eq=False)
class OVoxelPicture:
    """One picture.

    Attributes:
        rgba: (S, S, 4) uint8, straight alpha.
        normal: (S, S, 3) float32 unit vectors in world space, facing the camera; 0 in empty pixels.
    """

    rgba: np.ndarray
    normal: np.ndarray


def picture_ovoxel(ovoxel: OVoxel, camera: Camera) -> OVoxelPicture:
    """Draw the surface of an O-Voxel; without voxels the picture is empty."""
    size = camera.image_size
    vertices, faces = extract_mesh(ovoxel)
    corners = ovoxel.alpha[:, 0].astype(np.float32)[faces]
    alpha = (corners[:, 0] + corners[:, 1] + corners[:, 2]) / np.float32(3 * 255)
    winner = nearest_faces(
        vertices,
        faces,
        alpha,
        camera.extrinsics[:3, :3].copy(),
        camera.extrinsics[:3, 3].copy(),
        camera.focal * SAMPLES,
        camera.intrinsics[:2, 2] * SAMPLES,
        _THRESHOLDS,
        size * SAMPLES,
    )
    count, color, normal = shade(winner, vertices, faces, ovoxel.base_color, camera.position, _AMBIENT, SAMPLES)
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[..., :3] = np.rint(color / np.maximum(count, 1)[..., None])
    rgba[..., 3] = np.rint(count * (255 / SAMPLES**2))
    length = np.sqrt(np.einsum("...i,...i->...", normal, normal))[..., None]
    return OVoxelPicture(rgba, np.where(length > 0, normal / np.maximum(length, 1e-12), 0).astype(np.float32))


def resized(camera: Camera, image_size: int) -> Camera:
    """Return the same camera with another number of pixels."""
    scale = image_size / camera.image_size
    return Camera(camera.intrinsics * np.array([[scale], [scale], [1.0]]), camera.extrinsics, image_size)


def _bayer() -> np.ndarray:
    """(SAMPLES, SAMPLES) float32 Bayer matrix: at any alpha, the visible samples are spread evenly over a pixel."""
    order = np.array([[0, 2], [3, 1]])
    for _ in range(SAMPLES.bit_length() - 2):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    return ((order + 0.5) / SAMPLES**2).astype(np.float32)


_THRESHOLDS = _bayer()
