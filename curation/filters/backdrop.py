"""Finds backdrops: sky boxes and domes around a scene, and ground planes below it.

Both make the box around a clip large and what matters in it small. Scenes are split into parts, which are triangles
connected by welded vertices. The rules ask for a large difference in size, since a room, a base and the body around
eyes and teeth belong to their object.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from helix4d.assets import AlphaMode, Clip, Frame, Material
from helix4d.core.arrays import BoolArray, Float64Array, Int64Array
from helix4d.curation.filters.surface_kernels import connect

_WELD = 1 << 20
"""Grid cells per edge of the cube in which vertices count as one."""
_SKY, _GROUND = 2.0, 1.5
"""Smallest edge of a sky, or of a ground, relative to the rest of the scene."""
_FLAT = 0.02
"""Greatest height of a ground, relative to its longest edge."""
_SUNK = 0.05
"""Depth by which parts may extend below the ground, relative to their longest edge; shoe soles do."""
_STILL = 1e-3
"""Largest displacement of a ground, in edges of the box around all frames."""
_POINTS = 32
"""Corners of other parts that a sky must enclose, evenly spaced among all."""
_DOME = 0.4
"""Smallest share of all directions that a sky covers above a point inside; all upward directions are 0.5."""
_FOLDED = 1.02
"""Greatest area of a sky as seen from the scene's center, folds counted, relative to what it covers."""
_ASIDE, _RAISED = 0.25, 0.125
"""Greatest distance of the scene from the middle of its sky: sideways and upward, relative to the sky's edges."""


def backdrop_share(clip: Clip) -> float:
    """Return the share of the first frame's surface that belongs to a sky or a ground, for a normalized clip.

    A sky is a part with all smaller parts inside, near its middle or below. Its box is at least twice as large as
    theirs along every axis. It covers the directions above each of them, and every direction from their center meets it
    at most once. Its faces point inward or are double-sided. It is not glass, and all larger parts must
    also be skies.

    A ground is the largest flat, horizontal part and those of its height: still, below all other parts but skies, and
    at least 1.5 times as wide along both axes as the longest edge of the box around these.
    """
    frame = clip.frames[0]
    shown = frame.areas > 0
    total = float(frame.areas.sum())
    if not total:
        return 0.0
    scene = _Scene.of(frame, clip.materials or (Material(),), shown)
    flat = _flat(scene)
    sky, glass = _skies(scene, ~flat & ~scene.outline)
    ground = _ground(scene, clip, flat & ~scene.outline, ~(sky | glass | scene.outline))
    return float(scene.area[sky | ground].sum() / total)


@dataclass(frozen=True)
class _Scene:
    """A frame as P parts of F triangles with area, sorted by part.

    Attributes:
        triangles: (F, 3, 3) float64 corners.
        starts: (P + 1,) first triangle of each part, and F.
        low, high: (P, 3) float64 boxes of the parts.
        area: (P,) float64.
        outline, clear, one_sided: (P,) bool: whether any triangle is an outline, glass, or single-sided.
        vertices: (3 F,) vertex of each corner in the frame.
    """

    triangles: Float64Array
    starts: Int64Array
    low: Float64Array
    high: Float64Array
    area: Float64Array
    outline: BoolArray
    clear: BoolArray
    one_sided: BoolArray
    vertices: Int64Array

    @classmethod
    def of(cls, frame: Frame, materials: tuple[Material, ...], shown: BoolArray) -> _Scene:
        cells = np.clip((frame.vertices.astype(np.float64) + 0.5) * _WELD, 0, _WELD).astype(np.int64)
        numbers = (cells[:, 0] * (2 * _WELD) + cells[:, 1]) * (2 * _WELD) + cells[:, 2]
        places = np.unique(numbers, return_inverse=True)[1]
        faces = frame.faces[shown].astype(np.int64)
        labels = connect(places.reshape(-1)[faces], int(places.max()) + 1)
        order = np.argsort(labels, kind="stable")
        first = np.flatnonzero(np.diff(labels[order], prepend=-1))
        triangles = frame.vertices[faces[order]].astype(np.float64)
        ids = frame.topology.material_ids[shown][order]

        def any_of(flags: list[bool]) -> BoolArray:
            return np.asarray(np.logical_or.reduceat(np.array(flags)[ids], first))

        return cls(
            triangles=triangles,
            starts=np.append(first, len(faces)),
            low=np.minimum.reduceat(triangles.min(axis=1), first),
            high=np.maximum.reduceat(triangles.max(axis=1), first),
            area=np.add.reduceat(frame.areas[shown][order], first),
            outline=any_of([material.outline for material in materials]),
            clear=any_of([_is_clear(material) for material in materials]),
            one_sided=any_of([not material.double_sided for material in materials]),
            vertices=faces[order].reshape(-1),
        )

    def of_part(self, part: int) -> slice:
        return slice(self.starts[part], self.starts[part + 1])

    def of_parts(self, parts: BoolArray) -> BoolArray:
        """Return (F,) bool: the triangles of several parts."""
        return np.repeat(parts, np.diff(self.starts))


def _is_clear(material: Material) -> bool:
    return material.transmission > 0.0 or (material.alpha_mode is AlphaMode.BLEND and material.alpha < 1.0)


def _flat(scene: _Scene) -> BoolArray:
    edges = scene.high - scene.low
    return np.asarray(edges[:, 2] <= _FLAT * edges[:, :2].max(axis=1))


def _skies(scene: _Scene, candidates: BoolArray) -> tuple[BoolArray, BoolArray]:
    """Return (P,) bool masks of the skies and of the glass domes among the candidates."""
    found = np.zeros(len(scene.area), np.bool_)
    order = np.flatnonzero(candidates)
    order = order[np.argsort(np.linalg.norm(scene.high[order] - scene.low[order], axis=1), kind="stable")]
    rejected: set[int] = set()
    while (sky := _next_sky(scene, order[~found[order]], rejected)) is not None:
        found[sky] = True  # others may lie around it
    found[order[: np.flatnonzero(~found[order]).max(initial=-1) + 1]] = False  # parts inside an ordinary one
    return found & ~scene.clear, found & scene.clear


def _next_sky(scene: _Scene, order: Int64Array, rejected: set[int]) -> int | None:
    """Return the first part that is a sky above all earlier ones, for parts in the order of their size."""
    low, high = np.minimum.accumulate(scene.low[order]), np.maximum.accumulate(scene.high[order])
    around = (scene.low[order[1:]] <= low[:-1]).all(axis=1) & (scene.high[order[1:]] >= high[:-1]).all(axis=1)
    edges = scene.high[order[1:]] - scene.low[order[1:]]
    around &= (edges >= _SKY * (high[:-1] - low[:-1])).all(axis=1)
    away = (low[:-1] + high[:-1] - scene.low[order[1:]] - scene.high[order[1:]]) / 2
    around &= (np.abs(away[:, :2]) <= _ASIDE * edges[:, :2]).all(axis=1) & (away[:, 2] <= _RAISED * edges[:, 2])
    for number in np.flatnonzero(around):
        part = int(order[number + 1])
        if part not in rejected:
            inner = np.zeros(len(scene.area), np.bool_)
            inner[order[: number + 1]] = True
            if _covers(scene, part, inner, (low[number] + high[number]) / 2):
                return part
            rejected.add(part)
    return None


def _covers(scene: _Scene, part: int, inner: BoolArray, center: Float64Array) -> bool:
    """Return whether a part is spread out above all `inner` ones, seen from its inside."""
    shell = scene.triangles[scene.of_part(part)]
    angles = _shares_of_directions(shell, center)
    covered = float(angles.sum())
    if np.abs(angles).sum() > _FOLDED * abs(covered) or (covered > 0 and scene.one_sided[part]):
        return False
    corners = scene.triangles[scene.of_parts(inner)].reshape(-1, 3)
    points = corners[np.linspace(0, len(corners) - 1, min(_POINTS, len(corners))).astype(int)]
    heights = shell[:, :, 2].mean(axis=1)
    return all(abs(_shares_of_directions(shell[heights > point[2]], point).sum()) >= _DOME for point in points)


def _shares_of_directions(triangles: Float64Array, eye: Float64Array) -> Float64Array:
    """Return the (F,) solid angles of (F, 3, 3) triangles, as shares of 4π; positive if they face away from the eye.

    Formula: Van Oosterom and Strackee, The Solid Angle of a Plane Triangle, 1983.
    """
    a, b, c = np.moveaxis(triangles - eye, 1, 0)
    la, lb, lc = (np.linalg.norm(side, axis=1) for side in (a, b, c))
    volume = (a * np.cross(b, c)).sum(axis=1)
    spread = la * lb * lc + (a * b).sum(axis=1) * lc + (b * c).sum(axis=1) * la + (c * a).sum(axis=1) * lb
    return np.asarray(np.arctan2(volume, spread) / (2 * np.pi))


def _ground(scene: _Scene, clip: Clip, flat: BoolArray, counted: BoolArray) -> BoolArray:
    """Return a (P,) bool mask of the parts that make up the ground.

    Args:
        scene: parts.
        clip: clip, whose later frames show whether the ground moves.
        flat: (P,) bool: flat, horizontal parts.
        counted: (P,) bool: parts without skies and outlines.
    """
    none = np.zeros(len(scene.area), np.bool_)
    if not flat.any():
        return none
    edges = scene.high - scene.low
    largest = int(np.argmax(np.where(flat, edges[:, 0] * edges[:, 1], -1.0)))
    margin = _FLAT * edges[largest].max()
    level = (scene.low[:, 2] >= scene.low[largest, 2] - margin) & (scene.high[:, 2] <= scene.high[largest, 2] + margin)
    ground, rest = flat & level, counted & ~(flat & level)
    if not rest.any():
        return none
    low, high = scene.low[rest].min(axis=0), scene.high[rest].max(axis=0)
    longest = float((high - low).max())
    below, above = scene.low[ground].min(axis=0), scene.high[ground].max(axis=0)
    is_under = (below[:2] <= low[:2]).all() and (above[:2] >= high[:2]).all() and low[2] >= below[2] - _SUNK * longest
    is_wide = (above[:2] - below[:2] >= _GROUND * longest).all()
    return ground if is_under and is_wide and _is_still(scene, clip, ground) else none


def _is_still(scene: _Scene, clip: Clip, parts: BoolArray) -> bool:
    """Return whether the parts stay where they are in all frames with the triangles of the first one."""
    first = clip.frames[0]
    used = np.unique(scene.vertices[np.repeat(scene.of_parts(parts), 3)])
    start = first.vertices[used]
    return all(
        np.abs(frame.vertices[used] - start).max() <= _STILL
        for frame in clip.frames[1:]
        if frame.topology is first.topology or np.array_equal(frame.faces, first.faces)
    )
