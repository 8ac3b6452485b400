"""Sample points on surfaces with ActionBench's random numbers: equal seeds produce the official evaluation's points.

The official code samples single frames with trimesh and tracked points with PyTorch3D; their random draws are
reproduced here without either package. Unlike elsewhere, seeds are numbers defined by the protocol, not names.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor

from helix4d.core import AssetError, ConfigError, ReasonCode

_CATEGORIES = 2**24
"""Maximum number of categories of torch.multinomial."""
_FARTHEST = 1e9
"""Maximum coordinate: sums of squares of larger ones overflow float32."""


@dataclass(frozen=True)
class Surface:
    """A mesh without materials.

    Args:
        vertices: (V, 3) float.
        faces: (F, 3) int, triangles.
    """

    vertices: np.ndarray
    faces: np.ndarray

    def __post_init__(self) -> None:
        for name, array in (("vertices", self.vertices), ("faces", self.faces)):
            if array.ndim != 2 or array.shape[1] != 3:
                raise ConfigError(f"{name} have shape {array.shape}: expected (N, 3)")


@dataclass(frozen=True)
class SurfaceSamples:
    """Points on a surface and their positions on it.

    Args:
        points: (N, 3) float64.
        triangles: (N,) int, triangle of each point.
        weights: (N, 3) float64, barycentric coordinates in the triangle.
    """

    points: np.ndarray
    triangles: np.ndarray
    weights: np.ndarray


def sample_surface(surface: Surface, count: int, seed: int) -> Tensor:
    """Sample points (count, 3) float32, uniformly over the area.

    Raises:
        AssetError: if the surface has no area, or a vertex is not finite.
    """
    return torch.from_numpy(sample_on_surface(surface, count, seed).points.astype(np.float32))


def sample_on_surface(surface: Surface, count: int, seed: int) -> SurfaceSamples:
    """Like `sample_surface`, but return unrounded points with their triangles.

    Raises:
        AssetError: as for `sample_surface`.
    """
    corners, areas = _triangles(surface)
    random = np.random.default_rng(seed).random
    cumulative = np.cumsum(areas)
    chosen = np.searchsorted(cumulative, random(count) * cumulative[-1])
    along = random((count, 2, 1))
    along = np.where(along.sum(axis=1, keepdims=True) > 1, 1 - along, along)
    origins = corners[chosen, 0]
    points = origins + (along * (corners[chosen, 1:] - origins[:, None])).sum(axis=1)
    weights = np.concatenate([1 - along.sum(axis=1), along[..., 0]], axis=1)
    return SurfaceSamples(points, chosen, weights)


def sample_tracked(surfaces: Sequence[Surface], count: int, seed: int) -> Tensor:
    """Sample points uniformly over the area of frame 0 and track them through all frames: (T, count, 3) float32.

    Raises:
        ConfigError: if the topology changes, or the mesh has too many triangles.
        AssetError: as for `sample_surface`.
    """
    if not same_topology(surfaces):
        raise ConfigError("the topology of the mesh changes, so its points cannot be tracked")
    triangles = [_triangles(surface)[0].astype(np.float32) for surface in surfaces]
    if len(triangles[0]) > _CATEGORIES:
        raise ConfigError(f"the mesh has {len(triangles[0])} triangles: at most {_CATEGORIES} can be tracked")
    corners = torch.from_numpy(triangles[0])
    areas = torch.linalg.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]).norm(dim=-1) / 2
    if not float(areas.sum()) > 0:
        raise AssetError(ReasonCode.DEGENERATE_GEOMETRY, "the triangles of frame 0 have no area in float32")
    random = torch.Generator().manual_seed(seed)
    chosen = areas.multinomial(count, replacement=True, generator=random)
    u, v = torch.rand(2, 1, count, generator=random)[:, 0]
    root = u.sqrt()
    weights = torch.stack([1 - root, root * (1 - v), root * v], dim=-1)[..., None]
    return torch.stack([(weights * torch.from_numpy(frame)[chosen]).sum(dim=1) for frame in triangles])


def same_topology(surfaces: Sequence[Surface]) -> bool:
    """Return whether all frames have the same triangles and the same number of vertices."""
    first = surfaces[0]
    return all(len(s.vertices) == len(first.vertices) and np.array_equal(s.faces, first.faces) for s in surfaces)


def subsample(points: Tensor, count: int, seed: int) -> Tensor:
    """Select at most `count` points, the same in all frames and in random order if N > count: (..., N, 3)."""
    number = points.shape[-2]
    if number <= count:
        return points
    # The protocol defines this legacy generator; a local instance leaves numpy's global state unchanged.
    chosen = np.random.RandomState(seed).permutation(number)[:count]
    return points[..., torch.from_numpy(chosen).to(points.device), :]


def _triangles(surface: Surface) -> tuple[np.ndarray, np.ndarray]:
    """Return the corners (F, 3, 3) float64 and areas (F,) of the triangles."""
    vertices, faces = surface.vertices.astype(np.float64), surface.faces
    if not len(faces):
        raise AssetError(ReasonCode.EMPTY_GEOMETRY, "the mesh has no triangles")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise AssetError(
            ReasonCode.INVALID_ACCESSOR,
            f"triangles refer to vertices {faces.min()} to {faces.max()}, but the mesh has {len(vertices)}",
        )
    corners = vertices[faces]
    if not (np.abs(corners) < _FARTHEST).all():
        raise AssetError(
            ReasonCode.NON_FINITE_GEOMETRY, f"the mesh has vertices that are not finite or exceed {_FARTHEST:.0e}"
        )
    areas = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1) / 2
    if not areas.sum() > 0:
        raise AssetError(ReasonCode.DEGENERATE_GEOMETRY, "the triangles of the mesh have no area")
    return corners, areas
