"""Meshes become colored point clouds, the input of ULIP-2 and Uni3D, and clouds become groups of neighbors.

Sources: `pc_normalize` and `farthest_point_sample` of ULIP's and Uni3D's datasets; their `Group` modules, whose centers
come from pointnet2_ops, which starts at point 0 and never chooses points within sqrt(0.001) of the origin.
"""

from __future__ import annotations

import numpy as np
import torch
from torch import Tensor

from helix4d.assets import Clip, Frame, Texture, Wrap
from helix4d.core import ConfigError
from helix4d.evaluation.geometry.sampling import Surface, sample_on_surface
from helix4d.evaluation.learned.farthest_kernels import farthest

POINTS = 10_000
"""Points of a cloud, as in the training of both networks."""
CANDIDATES = 4
"""Uniform samples per point of a cloud, from which farthest-point sampling chooses."""
COLORLESS = 0.4
"""Gray of surfaces without color, as in the training of both networks."""

_BLIND = np.float32(1e-3)


def colored_cloud(clip: Clip, frame: Frame, seed: int, textured: bool = True, count: int = POINTS) -> np.ndarray:
    """Sample a frame's surface: (count, 6) float32 normalized positions and sRGB in [0, 1].

    `CANDIDATES` times as many points, uniform over the area, are reduced by farthest-point sampling.

    Args:
        clip: clip with the materials and images.
        frame: frame of the clip.
        seed: seed of the uniform samples.
        textured: whether to sample colors; otherwise all are `COLORLESS`.
        count: number of points.

    Raises:
        AssetError: if the frame has no surface.
    """
    sampled = sample_on_surface(Surface(frame.vertices, frame.faces), CANDIDATES * count, seed)
    points = sampled.points.astype(np.float32)
    kept = farthest_points(points, count)
    if textured:
        colors = base_colors(clip, frame, sampled.triangles[kept], sampled.weights[kept])
    else:
        colors = np.full((count, 3), COLORLESS)
    return np.concatenate([unit_ball(points[kept]), colors], axis=1, dtype=np.float32)


def unit_ball(points: np.ndarray) -> np.ndarray:
    """Normalize (N, 3) points to mean 0 and largest norm 1, as float32; coinciding points go to the origin."""
    centered = points - points.mean(axis=0, dtype=np.float64)
    radius = np.linalg.norm(centered, axis=1).max()
    return np.asarray(centered / radius if radius > 0 else centered, np.float32)


def farthest_points(points: np.ndarray, count: int, blind: float = -1.0) -> np.ndarray:
    """Farthest-point sampling, exact in float32, starting from point 0.

    Args:
        points: (N, 3) float32.
        count: number of points to choose, at most N.
        blind: points with a squared norm up to this are never chosen, except the first.

    Returns:
        (count,) int64 indices.

    Raises:
        ConfigError: if there are fewer points than `count`.
    """
    if not 1 <= count <= len(points):
        raise ConfigError(f"cannot choose {count} of {len(points)} points: must be between 1 and {len(points)}")
    chosen = np.empty(count, np.int64)
    farthest(np.ascontiguousarray(points, np.float32), chosen, np.float32(blind))
    return chosen


def group(clouds: Tensor, groups: int, size: int) -> tuple[Tensor, Tensor]:
    """Group a cloud around centers chosen by farthest-point sampling.

    Args:
        clouds: (B, N, 6) float32 points with colors.
        groups: number of centers, G.
        size: number of points per group, K; at most N.

    Returns:
        (B, G, K, 6) nearest points of each center, relative to it, with their colors; (B, G, 3) centers.

    Raises:
        ConfigError: if the shapes do not match.
    """
    if clouds.ndim != 3 or clouds.shape[-1] != 6 or size > clouds.shape[1]:
        raise ConfigError(
            f"clouds of shape {tuple(clouds.shape)} in groups of {size}: expected (B, N, 6), N at least {size}"
        )
    members, centers = [], []
    for cloud in clouds:  # one at a time, since the distances of a cloud are a G × N matrix
        xyz = cloud[:, :3]
        chosen = farthest_points(xyz.cpu().numpy(), groups, float(_BLIND))
        center = xyz[torch.from_numpy(chosen).to(xyz.device)]
        distances = sum((center[:, None, axis] - xyz[None, :, axis]).square() for axis in range(3))
        nearest = torch.as_tensor(distances).topk(size, largest=False, sorted=False).indices
        around = cloud[nearest]
        members.append(torch.cat([around[..., :3] - center[:, None], around[..., 3:]], dim=-1))
        centers.append(center)
    return torch.stack(members), torch.stack(centers)


def base_colors(clip: Clip, frame: Frame, triangles: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """Base color at points inside triangles: (N, 3) float64 sRGB in [0, 1].

    Args:
        clip: clip with the materials and images.
        frame: frame of the clip.
        triangles: (N,) indices of faces.
        weights: (N, 3) barycentric coordinates.
    """
    topology = frame.topology
    colors = np.ones((len(triangles), 3))
    if topology.colors is not None:
        colors = np.einsum("nk,nkc->nc", weights, topology.colors[triangles][..., :3].astype(np.float64))
    materials = topology.material_ids[triangles]
    for index in np.unique(materials):
        here = materials == index
        material = clip.materials[index]
        colors[here] *= np.asarray(material.base_color)
        texture = material.base_color_texture
        if texture is not None and texture.uv_set < len(topology.uvs):
            uvs = np.einsum(
                "nk,nkc->nc", weights[here], topology.uvs[texture.uv_set, triangles[here]].astype(np.float64)
            )
            colors[here] *= _texels(clip.images[texture.image], texture, uvs)
    linear = colors.clip(0, 1)
    return np.where(linear <= 0.0031308, 12.92 * linear, 1.055 * linear ** (1 / 2.4) - 0.055)


def _texels(image: np.ndarray, texture: Texture, uvs: np.ndarray) -> np.ndarray:
    """Return (N, 3) linear RGB, sampled with the filter of the texture."""
    matrix = texture.matrix()
    size = np.array(image.shape[1::-1])
    positions = (uvs @ matrix[:, :2].T + matrix[:, 2]) * size - 0.5
    if texture.nearest:
        positions = np.floor(positions + 0.5)
    low = np.floor(positions).astype(np.int64)
    part = positions - low
    total = np.zeros((len(uvs), 3))
    for dy in (0, 1):
        for dx in (0, 1):
            x = _wrapped(low[:, 0] + dx, int(size[0]), texture.wrap_u)
            y = _wrapped(low[:, 1] + dy, int(size[1]), texture.wrap_v)
            share = (part[:, 0] if dx else 1 - part[:, 0]) * (part[:, 1] if dy else 1 - part[:, 1])
            total += share[:, None] * _LINEAR[image[y, x, :3]]
    return total


def _wrapped(index: np.ndarray, size: int, wrap: Wrap) -> np.ndarray:
    if wrap is Wrap.CLAMP:
        return index.clip(0, size - 1)
    if wrap is Wrap.REPEAT:
        return index % size
    turned = index % (2 * size)
    return np.where(turned < size, turned, 2 * size - 1 - turned)


def _linear_bytes() -> np.ndarray:
    """(256,) float64: linear values of sRGB bytes."""
    value = np.arange(256) / 255.0
    return np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)


_LINEAR = _linear_bytes()
