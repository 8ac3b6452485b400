"""The errors for meshes that cannot be voxelized, and for GPUs that cannot be used."""

from __future__ import annotations

import numpy as np

from helix4d.core import Helix4DError


class GeometryError(Helix4DError):
    """A mesh that cannot be voxelized: a vertex outside the unit cube or not finite, an index without a vertex."""


class GpuError(Helix4DError):
    """The GPU was requested and cannot be used; the message states the cause."""


def outside_error(face: int, vertices: np.ndarray, faces: np.ndarray, names: np.ndarray | None) -> GeometryError:
    """Return the error for a face outside the cube; names (F,) are the face numbers of the source file."""
    corners = vertices[faces[face]].tolist()
    name = face if names is None else int(names[face])
    return GeometryError(f"face {name} has corners {corners}: expected finite numbers in [-0.5, 0.5]^3")
