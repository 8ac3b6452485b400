"""The one error of this package that is not about a file."""

from __future__ import annotations

from core import Helix4DError


class GeometryError(Helix4DError):
    """A mesh that cannot be voxelized: a vertex outside the unit cube or not finite, an index without a vertex."""
