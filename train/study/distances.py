"""Chamfer distances between two surfaces given as points: in place, or after aligning one by a similarity transform.

Both are the sum of the two mean nearest-neighbor distances. ActionBench's CD-3D and CD-4D (`helix4d.evaluation`) sum
likewise, but align with a scale per axis.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.core import generator

_QUERIES = 1024
_CHUNK = 256
_ROUNDS = 10


def chamfer(a: Tensor, b: Tensor) -> float:
    """Chamfer distance in place of points [P, 3] and [Q, 3], 0 for equal sets.

    At most 1024 points of each are compared with all of the other.
    """
    return float(_nearest(_subset(a), b)[0].mean()) + float(_nearest(_subset(b), a)[0].mean())


def aligned_chamfer(a: Tensor, b: Tensor) -> float:
    """Aligned chamfer distance: the lower of `chamfer` before and after aligning a to b with a similarity transform.

    The alignment is ten rounds of bidirectional iterative closest point, starting in place: a is already in b's frame.
    """
    source, target = _subset(a).double(), _subset(b).double()
    moving, aligned = source, a.double()
    for _ in range(_ROUNDS):
        _, to_target = _nearest(moving, target)
        _, to_source = _nearest(target, moving)
        pairs = torch.cat([moving, moving[to_source]]), torch.cat([target[to_target], target])
        rotation, shift, scale = _similarity(*pairs)
        moving = scale * moving @ rotation.T + shift
        aligned = scale * aligned @ rotation.T + shift
    return min(chamfer(a, b), chamfer(aligned.to(b.dtype), b))


def _subset(points: Tensor) -> Tensor:
    """Return at most 1024 of the points, always the same ones for the same number of points."""
    if len(points) <= _QUERIES:
        return points
    chosen = generator(len(points), "points").choice(len(points), _QUERIES, replace=False)
    return points[torch.from_numpy(chosen)]


def _nearest(a: Tensor, b: Tensor) -> tuple[Tensor, Tensor]:
    """Return the distance [P] from each point of a to the nearest point of b, and the index [P] of that point."""
    # Matrix products would round distances of equal points to nonzero values.
    exact = "donot_use_mm_for_euclid_dist"
    parts = [torch.cdist(part, b, compute_mode=exact).min(dim=1) for part in a.split(_CHUNK)]
    return torch.cat([p.values for p in parts]), torch.cat([p.indices for p in parts])


def _similarity(source: Tensor, target: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Return the rotation [3, 3], shift [3] and scale that best align paired points [P, 3] (Umeyama)."""
    from_center, to_center = source.mean(0), target.mean(0)
    a, b = source - from_center, target - to_center
    u, s, v = torch.linalg.svd(b.T @ a)
    signs = torch.ones(3, dtype=source.dtype)
    signs[2] = torch.sign(torch.linalg.det(u @ v))
    rotation = u @ torch.diag(signs) @ v
    spread = (a**2).sum()
    scale = (s * signs).sum() / spread if float(spread) > 0 else torch.ones((), dtype=source.dtype)
    return rotation, to_center - scale * rotation @ from_center, scale
