"""Detects meshes that a deformation distorts: a few edges become many times longer than all the others.

Wrong weights, bind poses or vertex orders keep the shape of most of a mesh and move a few vertices far away. In a
triangle between the two, one edge keeps its length and two grow. In contrast, an animation that enlarges a mesh or a
part of it stretches whole triangles, and one that does so in a single direction is an affine map of the whole mesh.
"""

from __future__ import annotations

import numpy as np

from helix4d.core.arrays import BoolArray, Float64Array

_TIMES = 10.0
"""An edge is stretched if it grows this many times as much as the median edge of its mesh and as another edge of its
triangle, and if it exceeds `_LEAST_SHARE`."""
_LEAST_SHARE = 0.05
"""Minimum length of a stretched edge, as a share of the mesh's diagonal at rest, scaled by the median growth. Shorter
edges, such as those of a closed eyelid, may open."""
_COLLAPSED = 1e-4
"""Edges that shrink below this factor are excluded from the median: parts may be hidden by a scale of 0."""
_AFFINE = 1e-3
"""A mesh is moved as a whole if no edge differs by more than this share of the longest from one affine map."""


def stretched_edges(rest: Float64Array, posed: Float64Array) -> int:
    """Count the edges that a deformation stretches tenfold; an edge of two triangles counts twice.

    Args:
        rest: (F, 3, 3) triangles before the deformation.
        posed: (F, 3, 3) the same triangles after it, in any unit.
    """
    if not len(rest) or np.array_equal(rest, posed):
        return 0
    before, after = (_edges(triangles) for triangles in (rest, posed))
    if _is_affine(before, after):
        return 0
    length, stretched = (np.linalg.norm(edges, axis=1).reshape(-1, 3) for edges in (before, after))
    growth = np.divide(stretched, length, out=np.full_like(length, np.inf), where=length > 0)
    counted = np.isfinite(growth) & (growth > _COLLAPSED)
    if not counted.any():
        return 0
    median = float(np.median(growth[counted]))
    corners = rest.reshape(-1, 3)
    diagonal = float(np.linalg.norm(corners.max(axis=0) - corners.min(axis=0)))
    least = _TIMES * np.maximum(median, growth.min(axis=1, keepdims=True))
    far: BoolArray = counted & (growth > least) & (stretched > _LEAST_SHARE * median * diagonal)
    return int(far.sum())


class StretchCheck:
    """Collects what `stretched_edges` finds in the frames of a clip."""

    def __init__(self) -> None:
        self._worst, self._edges, self._frames = 0, 0, 0

    def add(self, meshes: list[tuple[Float64Array, Float64Array]]) -> None:
        """Add a frame: (F, 3, 3) triangles of each deformed mesh before and after its deformation."""
        found = sum(stretched_edges(rest, posed) for rest, posed in meshes)
        self._frames += found > 0
        if found > self._worst:
            self._worst, self._edges = found, sum(3 * len(rest) for rest, _ in meshes)

    def warnings(self) -> list[str]:
        """Return the warning of the clip, if there is one."""
        if not self._frames:
            return []
        return [
            f"deformations stretch {self._worst:,} of {self._edges:,} edges of triangles more than {_TIMES:g} times as "
            f"much as the others (frames affected: {self._frames}): the mesh may be distorted"
        ]


def _edges(triangles: Float64Array) -> Float64Array:
    """Return the (3F, 3) edge vectors."""
    return (np.roll(triangles, -1, axis=1) - triangles).reshape(-1, 3)


def _is_affine(before: Float64Array, after: Float64Array) -> bool:
    if not np.isfinite(after).all():
        return True  # reported elsewhere
    fitted, *_ = np.linalg.lstsq(before, after, rcond=None)
    difference = np.abs(before @ fitted - after).max()
    return bool(difference <= _AFFINE * np.linalg.norm(after, axis=1).max())
