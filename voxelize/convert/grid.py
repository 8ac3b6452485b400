"""The dual grid of a mesh as arrays, and the weights that determine its vertices."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np

Device = Literal["auto", "cpu", "gpu"]
"""Where to convert. "auto" is a GPU that agrees with the CPU in a self-check, else the CPU, and one line of the log
says why; "gpu" raises GpuError in that case."""


@dataclass(frozen=True, eq=False)
class DualGrid:
    """The result of `dual_grid`, in Morton order.

    Attributes:
        resolution: voxels per side R.
        coords: (N, 3) int32 in [0, R).
        dual_vertices: (N, 3) float32 in [0, 1].
        intersected: (N, 3) bool.
    """

    resolution: int
    coords: np.ndarray
    dual_vertices: np.ndarray
    intersected: np.ndarray


@dataclass(frozen=True, eq=False)
class Attributes:
    """The PBR attributes of a grid's voxels; without materials there are none, N = 0.

    Attributes:
        base_color: (N, 3) uint8.
        surface: (3, N) uint8: metallic, roughness and alpha, each contiguous.
    """

    base_color: np.ndarray
    surface: np.ndarray


@dataclass(frozen=True)
class QuadricWeights:
    """Weights of the terms of a voxel's quadric besides the planes of its crossings; defaults as in TRELLIS.2."""

    face: float = 1.0
    boundary: float = 0.2
    regularization: float = 0.01


def grid_scale(resolution: int) -> float:
    """Return the number of voxels per side of the cube as the official converter computes it.

    It equals the resolution up to rounding, because the official voxel size is a float32. At 96 voxels per side, for
    example, plane 48 is 1e-6 voxel above the center of the cube, so an edge at the center of a symmetric mesh is below
    it. Powers of two are exact.
    """
    size = np.float64(np.float32(1) / np.float32(resolution))
    scale = 1 / size
    if size * scale < 1:  # points at exactly one, two, four, ... voxels must not fall below that plane
        scale = np.nextafter(scale, np.inf)
    return float(scale)
