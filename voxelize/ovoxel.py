"""`OVoxel`: the sparse voxels of one mesh frame in Morton order, with geometry and attributes."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

MAX_RESOLUTION = 1024
"""Most voxels per side: 10 bits per coordinate."""


@dataclass(frozen=True, eq=False)
class OVoxel:
    """The active voxels of a surface with their geometry and attributes. May be empty.

    Attributes:
        resolution: voxels per side R of the cube [-0.5, 0.5]^3.
        coords: (N, 3) int32 in [0, R), sorted by Morton code, x most significant.
        dual_vertices: (N, 3) float32 in [0, 1], the surface point of each voxel relative to its minimum corner.
        intersected: (N, 3) bool; along axis a, whether the surface crosses the grid edge at the voxel's maximum
            corner in the other two axes.
        base_color: (N, 3) uint8, texels times factor as stored, without conversion from sRGB.
        metallic, roughness, alpha: (N, 1) uint8.
    """

    resolution: int
    coords: np.ndarray
    dual_vertices: np.ndarray
    intersected: np.ndarray
    base_color: np.ndarray
    metallic: np.ndarray
    roughness: np.ndarray
    alpha: np.ndarray

    def __post_init__(self) -> None:
        count = len(self.coords)
        shapes: dict[str, tuple[int, type]] = {
            "coords": (3, np.int32),
            "dual_vertices": (3, np.float32),
            "intersected": (3, np.bool_),
            "base_color": (3, np.uint8),
            "metallic": (1, np.uint8),
            "roughness": (1, np.uint8),
            "alpha": (1, np.uint8),
        }
        for name, (width, dtype) in shapes.items():
            array = getattr(self, name)
            if array.shape != (count, width) or array.dtype != dtype:
                expected = f"{np.dtype(dtype)} ({count}, {width})"
                raise ValueError(f"{name}: expected {expected}, found {array.dtype} {array.shape}")

    def __len__(self) -> int:
        return len(self.coords)

    @classmethod
    def empty(cls, resolution: int) -> OVoxel:
        """An O-Voxel without voxels."""
        byte = np.zeros((0, 1), np.uint8)
        return cls(
            resolution,
            np.zeros((0, 3), np.int32),
            np.zeros((0, 3), np.float32),
            np.zeros((0, 3), np.bool_),
            np.zeros((0, 3), np.uint8),
            byte,
            byte,
            byte,
        )


def morton_codes(coords: np.ndarray) -> np.ndarray:
    """(N,) int64 Morton codes of (N, 3) non-negative integer coords below 2^20, x most significant in each triple."""
    x, y, z = (_spread(coords[:, axis].astype(np.int64)) for axis in range(3))
    return (x << 2) | (y << 1) | z


def grid_side(resolution: int) -> int:
    """Return the smallest power of two that is at least 8 and `resolution`."""
    return max(8, 1 << (resolution - 1).bit_length())


def spread_table(side: int) -> np.ndarray:
    """(3, side) int32: per axis, the Morton code of each coordinate with the others 0."""
    single = np.zeros((side, 3), np.int64)
    single[:, 2] = np.arange(side)
    z = morton_codes(single)
    return np.stack([z << 2, z << 1, z]).astype(np.int32)


def _spread(values: np.ndarray) -> np.ndarray:
    """Move bit k of each value to bit 3k."""
    for shift, mask in (
        (32, 0x1F00000000FFFF),
        (16, 0x1F0000FF0000FF),
        (8, 0x100F00F00F00F00F),
        (4, 0x10C30C30C30C30C3),
        (2, 0x1249249249249249),
    ):
        values = (values | (values << shift)) & mask
    return values
