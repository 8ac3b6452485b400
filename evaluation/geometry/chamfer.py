"""Distances between two clouds of points, and between two clouds that move: ActionBench's definitions.

Distances are not squared, and the two directions are summed, not averaged. Lower is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.nearest import Neighbors
from helix4d.evaluation.geometry.sampling import subsample


def chamfer_distance(points: Tensor, truth: Tensor, queries: int = 10_000, seed: int = 44) -> float:
    """Mean distance from `truth` to `points` plus mean distance from `points` to `truth`.

    Args:
        points: (P, 3), the prediction where it is to be judged.
        truth: (Q, 3), in the same units, which are those of the result.
        queries: points of each cloud that look for a neighbor, at most; they look at all of the other cloud.
        seed: of the choice of queries in `points`; in `truth` it is one more.
    """
    to_points, _ = Neighbors(points).query(subsample(truth, queries, seed + 1))
    to_truth, _ = Neighbors(truth).query(subsample(points, queries, seed))
    return _mean(to_points) + _mean(to_truth)


def motion_chamfer_distance(points: Tensor, truth: Tensor) -> float:
    """Pairs found in frame 0, both ways, are kept in all frames; the mean of their distances over pairs and frames.

    Args:
        points: (T, P, 3), the tracked prediction where it is to be judged.
        truth: (T, Q, 3), tracked.
    """
    if len(points) != len(truth):
        raise ConfigError(f"motion of {len(points)} frames cannot be compared with one of {len(truth)}")
    _, to_points = Neighbors(points[0]).query(truth[0])
    _, to_truth = Neighbors(truth[0]).query(points[0])
    # A frame at a time: 16 frames of 100 000 points at once are needlessly large.
    ways = [
        _mean((frame[to_points] - true).norm(dim=-1)) + _mean((true[to_truth] - frame).norm(dim=-1))
        for frame, true in zip(points, truth, strict=True)
    ]
    return sum(ways) / len(ways)


def _mean(values: Tensor) -> float:
    return float(values.mean(dtype=torch.float64))
