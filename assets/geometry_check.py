"""Checks the geometry of a baked clip in float64, before it is rounded to float32."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from helix4d.assets.triangles import areas, face_areas
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array, IntArray

_PRECISION = 1 / 1024
"""Float32 steps must be finer than this fraction of the clip's diagonal, so that they stay below a voxel at 512³."""

_FAR_STEP = 1e-3
"""Float32 step in meters above which collapsed triangles are attributed to their distance from the origin."""


class GeometryCheck:
    """Collects the extent and rounding of frames; `finish` raises if the clip as a whole is unusable."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)
        self._rounding = 0.0
        self._farthest = 0.0

    def add(self, positions: Float64Array, faces: IntArray, rounding: float) -> None:
        """Add a frame.

        Args:
            positions: (V, 3) float64 world positions.
            faces: (F, 3) vertex indices.
            rounding: largest error of the positions, in meters, due to float32 rounding in the file.

        Raises:
            AssetError: non_finite_geometry, including values outside the range of float32.
        """
        used = np.zeros(len(positions), bool)
        used[faces] = True
        farthest = float(np.abs(positions[used]).max(initial=0.0))
        if not farthest <= np.finfo(np.float32).max:  # false for NaN as well
            raise AssetError(
                ReasonCode.NON_FINITE_GEOMETRY,
                "a vertex becomes infinite or NaN when the transform of its node is applied",
                self._path,
            )
        self._farthest = max(self._farthest, farthest)
        used[:] = False
        used[faces[face_areas(positions, faces) > 0]] = True
        if used.any():
            solid = positions[used]
            self._low = np.minimum(self._low, solid.min(axis=0))
            self._high = np.maximum(self._high, solid.max(axis=0))
        self._rounding = max(self._rounding, rounding)

    def finish(self, unposed: Iterable[Float64Array]) -> None:
        """Check the clip as a whole.

        Args:
            unposed: (F, 3, 3) triangles before posing. If no posed triangle has any area but some of these do, the
                transforms are the cause (degenerate_geometry), otherwise the meshes (empty_geometry).

        Raises:
            AssetError: empty_geometry, degenerate_geometry, precision_loss.
        """
        if not np.isfinite(self._low).all():
            step = float(np.spacing(np.float32(self._farthest)))
            if step > _FAR_STEP:
                raise AssetError(
                    ReasonCode.PRECISION_LOSS,
                    f"every triangle is collapsed to a line or point {self._farthest:.3g} m from the origin, where "
                    f"float32 has steps of {step:.3g} m: move it to the origin",
                    self._path,
                )
            if any((areas(triangles) > 0).any() for triangles in unposed):
                raise AssetError(
                    ReasonCode.DEGENERATE_GEOMETRY,
                    "every triangle is hidden or collapsed to a line or point by its transforms, in every frame",
                    self._path,
                )
            raise AssetError(ReasonCode.EMPTY_GEOMETRY, "no triangle has any area", self._path)
        diagonal = float(np.linalg.norm(self._high - self._low))
        farthest = np.float32(max(np.abs(self._low).max(), np.abs(self._high).max()))
        step = max(float(np.spacing(farthest)), self._rounding)
        if step > _PRECISION * diagonal:
            raise AssetError(
                ReasonCode.PRECISION_LOSS,
                f"float32 is too coarse (steps of {step:.3g} m for an object of {diagonal:.3g} m, {farthest:.3g} m "
                "from the origin): move it to the origin",
                self._path,
            )
