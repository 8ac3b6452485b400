"""Cameras in the convention of `transforms.json`: camera to world, where the camera's y points up and z backward."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

from helix4d.render import Camera

_OPENCV_TO_BLENDER = np.diag([1.0, -1.0, -1.0, 1.0])


def transform_matrix(camera: Camera) -> list[list[float]]:
    """Return the 4×4 matrix from camera to world."""
    matrix: list[list[float]] = (np.linalg.inv(camera.extrinsics) @ _OPENCV_TO_BLENDER).tolist()
    return matrix


def camera_angle_x(camera: Camera) -> float:
    """Return the horizontal field of view in radians."""
    return 2.0 * math.atan(0.5 * camera.image_size / camera.focal)


def intrinsics(camera: Camera) -> dict[str, Any]:
    """Return focal lengths, principal point and size in pixels, under the names of instant-ngp and nerfstudio."""
    matrix = camera.intrinsics
    return {
        "fl_x": float(matrix[0, 0]),
        "fl_y": float(matrix[1, 1]),
        "cx": float(matrix[0, 2]),
        "cy": float(matrix[1, 2]),
        "w": camera.image_size,
        "h": camera.image_size,
    }
