"""Makes one mesh follow all frames of a clip, where it can: the mesh of frame 0, deformed onto each frame's surface.

Generated frames have meshes of their own, so correspondence has to be found. The vertices move towards the nearest
point of the next frame, by displacements that are smooth over the mesh, coarse first. Whether the result stands for the
clip is then measured (`Limits`); where parts appear, merge, separate or move far, it does not, and is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.voxelize.kernels.surface_kernels import smooth_over_edges
from helix4d.voxelize.mesh.baking import BakedMesh
from helix4d.voxelize.mesh.cleaning import vertex_normals
from helix4d.voxelize.mesh.nearest import Surface

_SMOOTHING = (64, 64, 32, 32, 16, 16, 8, 8, 4, 4, 2, 2, 1, 1, 0)
"""Rounds of smoothing of each step's displacements; the last step ends on the surface."""
_PROBES = 20_000


class TopologyChangeError(ConfigError):
    """No single mesh can stand for the frames of a clip."""


@dataclass(frozen=True)
class Limits:
    """What a frame's deformed mesh may differ from the frame, by points spread evenly over both surfaces.

    Attributes:
        mean_distance: mean distance to the other surface, in either direction; the cube's side is 1.
        far_distance: distance that 99 % of the points keep.
        mean_color: mean difference of base color, of 255: the textures are those of frame 0.
    """

    mean_distance: float = 1 / 512
    far_distance: float = 1 / 64
    mean_color: float = 8.0


@dataclass(frozen=True, eq=False)
class MorphedClip:
    """One mesh for all frames.

    Attributes:
        mesh: the mesh of frame 0.
        positions: float32 (T, V, 3), its vertices in each frame.
        normals: float32 (T, V, 3), unit.
    """

    mesh: BakedMesh
    positions: np.ndarray
    normals: np.ndarray


def follow_clip(meshes: Sequence[BakedMesh | None], limits: Limits | None = None) -> MorphedClip:
    """Deform the mesh of frame 0 onto each frame in turn.

    Raises:
        TopologyChangeError: if a frame has no mesh, or the deformed mesh differs from one by more than the limits.
    """
    limits = limits or Limits()
    present = [mesh for mesh in meshes if mesh is not None]
    if len(present) < len(meshes) or not present:
        empty = [number for number, mesh in enumerate(meshes) if mesh is None]
        raise TopologyChangeError(f"frames {empty} have no surface: one mesh cannot disappear and return")
    first = present[0]
    welded, place = np.unique(first.vertices, axis=0, return_inverse=True)
    place = place.ravel()  # seams repeat vertices, which must stay together
    faces = place[first.faces]
    edges = np.unique(np.sort(np.concatenate([faces[:, :2], faces[:, 1:], faces[:, ::2]]), axis=1), axis=0)

    points = welded.astype(np.float64)
    positions, normals = [], []
    for number, mesh in enumerate(present):
        if number:
            points = _moved_onto(points, edges, Surface.build(mesh.vertices, mesh.faces))
            _check(number, first, points[place], mesh, limits)
        positions.append(points[place].astype(np.float32))
        normals.append(vertex_normals(points, faces)[place])
    return MorphedClip(first, np.stack(positions), np.stack(normals))


def _moved_onto(points: np.ndarray, edges: np.ndarray, target: Surface) -> np.ndarray:
    points = points.copy()
    smooth = np.empty_like(points)
    for rounds in _SMOOTHING:
        pull = target.nearest(points)[0] - points
        smooth_over_edges(pull, edges, rounds, smooth)
        points += smooth
    return points


def _check(number: int, first: BakedMesh, points: np.ndarray, mesh: BakedMesh, limits: Limits) -> None:
    """Raise TopologyChangeError if the deformed mesh is not the frame's."""
    ours, theirs = Surface.build(points, first.faces), Surface.build(mesh.vertices, mesh.faces)
    for name, source, target in (("deformed mesh from the frame", ours, theirs), ("frame from the mesh", theirs, ours)):
        probes, uvs = _probes(source, first if source is ours else mesh)
        near, owner = target.nearest(probes)
        distances = np.linalg.norm(near - probes, axis=1)
        mean, far = float(distances.mean()), float(np.quantile(distances, 0.99))
        if mean > limits.mean_distance or far > limits.far_distance:
            raise TopologyChangeError(
                f"frame {number}: the {name} is {mean:.4f} away in the mean and {far:.4f} at the 99th percentile, but "
                f"the limits are {limits.mean_distance:.4f} and {limits.far_distance:.4f}"
            )
        if source is theirs:
            seen = _colors(mesh.base_color, uvs)
            painted = _colors(first.base_color, _uvs_at(first, ours, near, owner))
            color = float(np.abs(seen - painted).mean())
            if color > limits.mean_color:
                raise TopologyChangeError(
                    f"frame {number}: its colors differ from those of frame 0 by {color:.1f} of 255 in the mean, but "
                    f"the limit is {limits.mean_color:g}"
                )


def _probes(surface: Surface, mesh: BakedMesh) -> tuple[np.ndarray, np.ndarray]:
    """Spread points evenly over a mesh, the same ones every time: (P, 3) points and (P, 2) UVs."""
    corners = surface.vertices[surface.faces]
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    total = np.cumsum(areas)
    steps = (np.arange(_PROBES) + 0.5) / _PROBES * total[-1]
    chosen = np.minimum(np.searchsorted(total, steps), len(areas) - 1)
    weights = np.array([0.5, 0.3, 0.2])
    points = np.einsum("c,pcx->px", weights, corners[chosen])
    return points, np.einsum("c,pcx->px", weights, mesh.uvs[surface.faces[chosen]])


def _uvs_at(mesh: BakedMesh, surface: Surface, points: np.ndarray, owner: np.ndarray) -> np.ndarray:
    """UVs (P, 2) at points of given triangles of a surface."""
    a, b, c = np.moveaxis(surface.vertices[surface.faces[owner]], 1, 0)
    normal = np.cross(b - a, c - a)
    area = np.maximum((normal**2).sum(axis=1), 1e-30)
    v = (np.cross(points - a, c - a) * normal).sum(axis=1) / area
    w = (np.cross(b - a, points - a) * normal).sum(axis=1) / area
    weights = np.stack([1 - v - w, v, w], axis=1)
    uvs: np.ndarray = np.einsum("pc,pcx->px", weights, mesh.uvs[surface.faces[owner]])
    return uvs


def _colors(image: np.ndarray, uvs: np.ndarray) -> np.ndarray:
    """Texels (P, 3) at UVs (P, 2), without filtering."""
    height, width = image.shape[:2]
    column = np.clip((uvs[:, 0] * width).astype(int), 0, width - 1)
    row = np.clip((uvs[:, 1] * height).astype(int), 0, height - 1)
    return image[row, column, :3].astype(np.float64)
