"""An O-Voxel as a camera sees it, without Blender: its mesh drawn with a depth buffer, in milliseconds.

For looking, not for training: lit from the camera, no shadows. Alpha is what the mesh covers, times the voxels' alpha.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from render.cameras import Camera
from render.picture_kernels import nearest_faces
from voxelize import OVoxel, extract_mesh

SAMPLES = 4
"""Per side of a pixel."""

_AMBIENT = 0.4


@dataclass(frozen=True, eq=False)
class OVoxelPicture:
    """One picture.

    Attributes:
        rgba: (S, S, 4) uint8, straight alpha.
        normal: (S, S, 3) float32 in the world, turned towards the camera, of length 1; 0 where nothing is.
    """

    rgba: np.ndarray
    normal: np.ndarray


def picture_ovoxel(ovoxel: OVoxel, camera: Camera) -> OVoxelPicture:
    """Draw the surface of an O-Voxel; one without voxels gives an empty picture."""
    size = camera.image_size
    vertices, faces = extract_mesh(ovoxel)
    alpha = ovoxel.alpha[faces, 0].mean(axis=1, dtype=np.float32) / np.float32(255)
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
    hit = winner >= 0
    shown = faces[winner[hit]]
    normals, facing = _facing_normals(vertices[shown].astype(np.float64), camera.position)
    color = ovoxel.base_color[shown].mean(axis=1, dtype=np.float64) * (_AMBIENT + (1 - _AMBIENT) * facing[:, None])
    count = _pixel_sums(hit, np.ones((len(shown), 1)))
    covered = count[..., 0] > 0
    rgba = np.zeros((size, size, 4), np.uint8)
    rgba[..., :3][covered] = np.rint(_pixel_sums(hit, color)[covered] / count[covered])
    rgba[..., 3] = np.rint(count[..., 0] * (255 / SAMPLES**2))
    normal = _pixel_sums(hit, normals)
    length = np.linalg.norm(normal, axis=-1, keepdims=True)
    return OVoxelPicture(rgba, np.where(length > 0, normal / np.maximum(length, 1e-12), 0).astype(np.float32))


def resized(camera: Camera, image_size: int) -> Camera:
    """The same camera with another number of pixels."""
    scale = image_size / camera.image_size
    return Camera(camera.intrinsics * np.array([[scale], [scale], [1.0]]), camera.extrinsics, image_size)


def _facing_normals(triangles: np.ndarray, eye: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Unit normals (N, 3) turned towards the eye, and how directly they face it, (N,) in [0, 1]."""
    normals = np.cross(triangles[:, 1] - triangles[:, 0], triangles[:, 2] - triangles[:, 0])
    normals /= np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-30)
    towards = eye - triangles.mean(axis=1)
    towards /= np.linalg.norm(towards, axis=1, keepdims=True)
    facing = (normals * towards).sum(axis=1)
    return normals * np.where(facing < 0, -1.0, 1.0)[:, None], np.abs(facing)


def _pixel_sums(hit: np.ndarray, values: np.ndarray) -> np.ndarray:
    """Values (N, C) of the samples that were hit, added up over each pixel: (S, S, C)."""
    side = len(hit) // SAMPLES
    row, column = np.nonzero(hit)
    pixel = row // SAMPLES * side + column // SAMPLES
    sums = [np.bincount(pixel, weights=channel, minlength=side * side) for channel in values.T]
    return np.stack(sums, axis=-1).reshape(side, side, -1)


def _bayer() -> np.ndarray:
    """(SAMPLES, SAMPLES) float32: every share of the samples of a pixel is spread evenly over it."""
    order = np.array([[0, 2], [3, 1]])
    for _ in range(SAMPLES.bit_length() - 2):
        order = np.block([[4 * order, 4 * order + 2], [4 * order + 3, 4 * order + 1]])
    return ((order + 0.5) / SAMPLES**2).astype(np.float32)


_THRESHOLDS = _bayer()
