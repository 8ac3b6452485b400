"""Simplifies meshes to a budget of faces with meshoptimizer's quadric error metric.

The result uses a subset of the vertices, so that attributes can be taken from the full surface.
"""

from __future__ import annotations

import logging

import numpy as np

from helix4d.core import ConfigError
from helix4d.core.extras import missing_package

log = logging.getLogger("helix4d.voxelize")

_ANY_ERROR = 1.0  # of the mesh's extent: only the budget limits the simplification


def simplify(vertices: np.ndarray, faces: np.ndarray, budget: int) -> np.ndarray:
    """Remove faces until at most `budget` are left.

    Boundaries are preserved as far as the budget allows. Where the surface is not manifold it cannot be simplified, so
    that more faces may be left; this is logged as a warning.

    Args:
        vertices: (V, 3) float32.
        faces: (F, 3) int32, consistently oriented.
        budget: faces of the result; a mesh with no more is returned as it is.

    Returns:
        faces int32 (F', 3) of the same vertices, in the same orientation.

    Raises:
        ConfigError: if the budget is not positive, or meshoptimizer is not installed.
    """
    if budget < 1:
        raise ConfigError(f"the face budget is {budget}: must be at least 1")
    if len(faces) <= budget:
        return faces
    try:
        import meshoptimizer
    except ImportError as error:
        raise missing_package("simplifying meshes", "meshoptimizer", extras="model") from error
    target = np.zeros(faces.size, np.uint32)
    count = meshoptimizer.simplify(
        target,
        np.ascontiguousarray(faces, np.uint32).ravel(),
        np.ascontiguousarray(vertices, np.float32),
        target_index_count=3 * budget,
        target_error=_ANY_ERROR,
    )
    left = target[:count].reshape(-1, 3).astype(faces.dtype)
    if len(left) > budget:
        log.warning("simplified from %d to %d faces, more than the budget of %d", len(faces), len(left), budget)
    return left
