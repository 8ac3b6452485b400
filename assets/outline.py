"""Recognizes outlines that are drawn with an inverted hull: a flipped, slightly larger copy of a surface.

Cartoon-style assets use one to draw a rim: rasterizers cull its near side, whose triangles face away from the camera,
and show its far side around the object. Here, where surfaces are double-sided, a hull would hide the whole object.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from helix4d.assets.clip import Clip, Frame
from helix4d.assets.surface import solid
from helix4d.assets.triangles import areas
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array

_FARTHEST = 0.05
"""Largest distance between a hull and its surface, relative to the diagonal of the box around the frame."""
_SHARE = 0.8
"""Minimum share of the hull's triangles that must be copies: exporters merge and split a few vertices."""
_MOST_SAMPLES = 512
_FIRST_SAMPLES = 32
_BLOCK = 1 << 22


def mark_outlines(clip: Clip) -> Clip:
    """Return the clip with the materials of inverted hulls marked as `Material.outline`, and a warning for each.

    A material is a hull if it is single-sided and, in the first frame that shows it, its faces enclose a negative
    volume and at least 80 % of its triangles (of up to 512, evenly spaced) are flipped copies. For a flipped copy, the
    nearest vertices of other materials are at most 5 % of the frame's diagonal away from its corners, are on the inner
    side, and form one triangle of the opposite winding.
    """
    if len(clip.materials) < 2:
        return clip
    marked = [
        number
        for number, frame in sorted(_first_frames(clip).items())
        if not clip.materials[number].double_sided and _is_hull(frame, frame.topology.material_ids == number)
    ]
    if not marked:
        return clip
    materials = [replace(m, outline=True) if number in marked else m for number, m in enumerate(clip.materials)]
    warnings = [
        f"material {clip.materials[number].name!r} is an inverted hull that draws an outline: its back faces are "
        "culled, and it has no voxels"
        for number in marked
    ]
    # All states of an animated material have the same name.
    return replace(clip, materials=tuple(materials), warnings=(*clip.warnings, *dict.fromkeys(warnings)))


def _first_frames(clip: Clip) -> dict[int, Frame]:
    """Return the first frame that shows each material; states of an animated material appear in different frames."""
    first: dict[int, Frame] = {}
    missing: set[int] = set()
    topology = None
    for frame in clip.frames:
        if frame.topology is not topology:
            topology = frame.topology
            missing = set(np.unique(topology.material_ids).tolist()) - first.keys()
        if missing:
            found = missing.intersection(np.unique(topology.material_ids[solid(frame)]).tolist())
            first.update(dict.fromkeys(found, frame))
            missing -= found
    return first


def _is_hull(frame: Frame, chosen: BoolArray) -> bool:
    return _is_inverted(frame, chosen) and _is_copy(frame, chosen)


def _is_inverted(frame: Frame, chosen: BoolArray) -> bool:
    """Return whether the chosen faces enclose a negative volume, which means that most of them face inward."""
    if not chosen.any():
        return False
    corners = frame.triangles()[chosen].astype(np.float64)
    corners = corners - corners.mean(axis=(0, 1))
    return bool(np.einsum("fi,fi->", corners[:, 0], np.cross(corners[:, 1], corners[:, 2])) < 0)


def _is_copy(frame: Frame, chosen: BoolArray) -> bool:
    """Return whether the chosen faces are flipped, slightly larger copies of other faces."""
    area = areas(frame.triangles())
    hull, rest = np.flatnonzero(chosen & (area > 0)), np.flatnonzero(~chosen & (area > 0))
    if not (len(hull) and len(rest)):
        return False
    corners = frame.triangles()[rest].reshape(-1, 3)
    points, labels = np.unique(corners, axis=0, return_inverse=True)
    base = _Base(points.astype(np.float64), labels.reshape(-1, 3).astype(np.int64))
    shown = frame.triangles()[np.concatenate([hull, rest])]
    bound = _FARTHEST * float(np.linalg.norm(shown.max(axis=(0, 1)) - shown.min(axis=(0, 1))))
    # A few triangles are enough to reject most candidates, such as the inside of a bowl.
    return all(
        base.copies(frame.triangles()[hull[_spread(len(hull), most)]].astype(np.float64), bound) >= _SHARE
        for most in (_FIRST_SAMPLES, _MOST_SAMPLES)
    )


def _spread(count: int, most: int) -> Int64Array:
    """Return up to `most` evenly spaced positions among `count`."""
    return np.unique(np.linspace(0, count - 1, min(count, most)).astype(np.int64))


class _Base:
    """The surface that a hull may be a copy of.

    Args:
        points: (P, 3) float64, distinct.
        faces: (F, 3) int64 indices into the points.
    """

    def __init__(self, points: Float64Array, faces: Int64Array) -> None:
        self._points = points
        self._faces = self._numbers(faces)
        first, second, third = (points[faces[:, corner]] for corner in range(3))
        across = np.cross(second - first, third - first)
        self._normals = np.zeros_like(points)
        for corner in range(3):
            np.add.at(self._normals, faces[:, corner], across)

    def copies(self, triangles: Float64Array, bound: float) -> float:
        """Return the share of (N, 3, 3) triangles that are flipped copies of faces, at most `bound` away."""
        nearest = self._nearest(triangles.reshape(-1, 3)).reshape(-1, 3)
        away = triangles - self._points[nearest]
        near = (np.linalg.norm(away, axis=2) <= bound).all(axis=1)
        outside = (np.einsum("fci,fci->fc", away, self._normals[nearest]) > 0).all(axis=1)
        return float((near & outside & np.isin(self._numbers(nearest[:, ::-1]), self._faces)).mean())

    def _numbers(self, faces: Int64Array) -> Int64Array:
        """Return (N,) hashes of (N, 3) faces: equal for the same face and winding, whichever corner is first.

        Above 2 million points the products overflow; a few collisions do not matter for a share.
        """
        count = len(self._points)
        first = faces.argmin(axis=1)
        turned = faces[np.arange(len(faces))[:, None], (first[:, None] + np.arange(3)) % 3]
        return np.asarray((turned[:, 0] * count + turned[:, 1]) * count + turned[:, 2])

    def _nearest(self, queries: Float64Array) -> Int64Array:
        """Return the (N,) index of the nearest point for each of (N, 3) queries."""
        found = np.empty(len(queries), np.int64)
        step = max(1, _BLOCK // len(self._points))
        squares = (self._points**2).sum(axis=1)
        for start in range(0, len(queries), step):
            block = queries[start : start + step]
            found[start : start + step] = (squares - 2 * block @ self._points.T).argmin(axis=1)
        return found
