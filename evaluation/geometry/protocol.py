"""CD-3D, CD-4D and CD-M of one animated prediction, by ActionBench's protocol; n/a comes with a reason.

CD-3D aligns each frame, CD-4D aligns all frames by the pose of frame 0, CD-M keeps the pairs of frame 0 and therefore
needs a constant topology. Source: the evaluation published with ActionMesh (Sabathier et al. 2026).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from statistics import fmean

import torch
from torch import Tensor

from helix4d.core import AssetError, ConfigError, FormatError
from helix4d.evaluation.geometry.alignment import EXACT, AlignmentSettings, align
from helix4d.evaluation.geometry.chamfer import chamfer_distance, motion_chamfer_distance
from helix4d.evaluation.geometry.sampling import Surface, sample_surface, sample_tracked, subsample

METRICS = ("cd_3d", "cd_4d", "cd_m")


@dataclass(frozen=True)
class Protocol:
    """ActionBench's numbers.

    Args:
        points: sampled on each predicted frame; frame f with `seed` + f, tracked points with `seed`.
        alignment_points: of each cloud, at most; the same in all frames.
        queries: of each cloud, at most.
    """

    points: int = 100_000
    alignment_points: int = 10_000
    queries: int = 10_000
    seed: int = 44
    alignment: AlignmentSettings = EXACT


@dataclass(frozen=True)
class GeometryScores:
    """Three distances in units of the truth, lower is better; None is n/a, and `reasons` says why, by metric."""

    cd_3d: float | None
    cd_4d: float | None
    cd_m: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Clouds:
    """A prediction and its truth as points, all float32.

    Args:
        points: (T, P, 3), not tracked.
        truth: (T, Q, 3), tracked.
        alignment_points, alignment_truth: (T, A, 3), (T, B, 3): what is aligned.
        tracked: (T, P, 3) tracked points of the prediction, or why there are none.
    """

    points: Tensor
    truth: Tensor
    alignment_points: Tensor
    alignment_truth: Tensor
    tracked: Tensor | str


def measure_geometry(prediction: Sequence[Surface], truth: Tensor, protocol: Protocol = Protocol()) -> GeometryScores:
    """The three numbers of one item.

    Args:
        prediction: a surface a frame, in the axes that the truth has; frames beyond those of the truth do not count.
        truth: (T, Q, 3) float32, tracked points; where it is decides where all is computed.

    Raises:
        FormatError: if the truth is no cloud of finite points.
    """
    _check(truth)
    if len(prediction) < len(truth):
        return _not_available(f"the prediction has {len(prediction)} frames, the truth {len(truth)}")
    surfaces = prediction[: len(truth)]
    sampled = []
    for frame, surface in enumerate(surfaces):
        try:
            sampled.append(sample_surface(surface, protocol.points, protocol.seed + frame))
        except AssetError as error:
            return _not_available(f"frame {frame}: {error}")
    points = torch.stack(sampled).to(truth)
    tracked: Tensor | str
    try:
        tracked = sample_tracked(surfaces, protocol.points, protocol.seed).to(truth)
    except (AssetError, ConfigError) as error:
        tracked = str(error)
    few, few_true = (subsample(cloud, protocol.alignment_points, protocol.seed) for cloud in (points, truth))
    return score_clouds(Clouds(points, truth, few, few_true, tracked), protocol)


def score_clouds(clouds: Clouds, protocol: Protocol = Protocol()) -> GeometryScores:
    """The three numbers from points that are already sampled."""
    pairs = zip(clouds.alignment_points, clouds.alignment_truth, strict=True)
    poses = [align(points, truth, protocol.alignment) for points, truth in pairs]
    each, first = [], []
    for pose, points, truth in zip(poses, clouds.points, clouds.truth, strict=True):
        each.append(chamfer_distance(pose.apply(points), truth, protocol.queries, protocol.seed))
        first.append(chamfer_distance(poses[0].apply(points), truth, protocol.queries, protocol.seed))
    if isinstance(clouds.tracked, str):
        return GeometryScores(fmean(each), fmean(first), None, {"cd_m": clouds.tracked})
    motion = motion_chamfer_distance(poses[0].apply(clouds.tracked), clouds.truth)
    return GeometryScores(fmean(each), fmean(first), motion)


def _check(truth: Tensor) -> None:
    if truth.ndim != 3 or truth.shape[2] != 3 or 0 in truth.shape or truth.dtype != torch.float32:
        raise FormatError(f"a truth is (frames, points, 3) float32 and not empty, this is {truth.dtype} {truth.shape}")
    if not truth.isfinite().all():
        raise FormatError("the truth has points that are not finite")


def _not_available(reason: str) -> GeometryScores:
    return GeometryScores(None, None, None, dict.fromkeys(METRICS, reason))
