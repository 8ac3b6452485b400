"""Distances between two point clouds, static or moving, as defined by ActionBench.

Distances are not squared, and the two directions are summed, not averaged. Lower is better.
"""

from __future__ import annotations

import torch
from torch import Tensor

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.nearest import Neighbors
from helix4d.evaluation.geometry.sampling import subsample


def chamfer_distance(points: Tensor, truth: Tensor, queries: int = 10_000, seed: int = 44) -> float:
    """Return the mean distance from `truth` to `points` plus the mean distance from `points` to `truth`.

    Args:
        points: (P, 3), aligned prediction.
        truth: (Q, 3), ground truth; the result has its units.
        queries: maximum number of points of each cloud whose nearest neighbor in the whole other cloud is searched.
        seed: seed of the selection of queries from `points`; `seed + 1` is used for `truth`.
    """
    to_points, _ = Neighbors(points).query(subsample(truth, queries, seed + 1))
    to_truth, _ = Neighbors(truth).query(subsample(points, queries, seed))
    return _mean(to_points) + _mean(to_truth)


def motion_chamfer_distance(points: Tensor, truth: Tensor) -> float:
    """Match points in frame 0, in both directions, and return the mean distance of the pairs over all frames.

    Args:
        points: (T, P, 3), tracked points of the aligned prediction.
        truth: (T, Q, 3), tracked points of the ground truth.
    """
    if len(points) != len(truth):
        raise ConfigError(f"the prediction has {len(points)} frames and the truth {len(truth)}: they must be equal")
    _, to_points = Neighbors(points[0]).query(truth[0])
    _, to_truth = Neighbors(truth[0]).query(points[0])
    # One frame at a time, to limit memory with 16 frames of 100,000 points.
    distances = [
        _mean((frame[to_points] - true).norm(dim=-1)) + _mean((true[to_truth] - frame).norm(dim=-1))
        for frame, true in zip(points, truth, strict=True)
    ]
    return sum(distances) / len(distances)


def _mean(values: Tensor) -> float:
    return float(values.mean(dtype=torch.float64))
