"""What can be wrong with the shape of a baked clip, found in float64 before it is rounded to float32."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np

from helix4d.assets.triangles import areas
from helix4d.core import AssetError, ReasonCode

_PRECISION = 1 / 1024
"""Float32 steps must be finer than this share of the clip's diagonal: they stay below a voxel at 512³."""


class GeometryCheck:
    """Takes the frames one after the other; `finish` says what is wrong with all of them."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._low, self._high = np.full(3, np.inf), np.full(3, -np.inf)
        self._rounding = 0.0

    def add(self, positions: np.ndarray, faces: np.ndarray, rounding: float) -> None:
        """Look at a frame: (V, 3) float64 world positions, (F, 3) faces, the rounding that the file itself carries.

        Raises:
            AssetError: non_finite_geometry, also for what float32 cannot hold at all.
        """
        used = positions[faces]
        if not (np.abs(used) <= np.finfo(np.float32).max).all():  # false for NaN as well
            raise AssetError(
                ReasonCode.NON_FINITE_GEOMETRY,
                "a vertex is infinite or undefined once its node's transform is applied",
                self._path,
            )
        solid = used[areas(used) > 0].reshape(-1, 3)
        if len(solid):
            self._low = np.minimum(self._low, solid.min(axis=0))
            self._high = np.maximum(self._high, solid.max(axis=0))
        self._rounding = max(self._rounding, rounding)

    def finish(self, unposed: Iterable[np.ndarray]) -> None:
        """Decide.

        Args:
            unposed: (F, 3, 3) triangles as the file stores them: if these have area and the posed ones never do, the
                transforms are to blame (degenerate_geometry), else the meshes (empty_geometry).

        Raises:
            AssetError: empty_geometry, degenerate_geometry, precision_loss.
        """
        if not np.isfinite(self._low).all():
            if any((areas(triangles) > 0).any() for triangles in unposed):
                raise AssetError(
                    ReasonCode.DEGENERATE_GEOMETRY,
                    "its transforms collapse every triangle to a line or a point in every frame, or hide it",
                    self._path,
                )
            raise AssetError(ReasonCode.EMPTY_GEOMETRY, "no triangle has any area", self._path)
        diagonal = float(np.linalg.norm(self._high - self._low))
        farthest = np.float32(max(np.abs(self._low).max(), np.abs(self._high).max()))
        step = max(float(np.spacing(farthest)), self._rounding)
        if step > _PRECISION * diagonal:
            raise AssetError(
                ReasonCode.PRECISION_LOSS,
                f"float32 steps are {step:.3g} m where it stands ({farthest:.3g} m out), it is only {diagonal:.3g} m "
                "large: move it to the origin",
                self._path,
            )
