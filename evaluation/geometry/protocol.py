"""CD-3D, CD-4D and CD-M of one animated prediction by ActionBench's protocol, or the reason why they are n/a.

CD-3D aligns each frame separately. CD-4D aligns all frames with the pose of frame 0. CD-M keeps the pairs matched in
frame 0 and therefore requires a constant topology. Source: the evaluation published with ActionMesh (Sabathier et al.
2026).
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
    """Settings of the protocol; the defaults are ActionBench's.

    Args:
        points: number of points sampled on each predicted frame.
        alignment_points: maximum number of points of each cloud used for the alignment, the same in all frames.
        queries: maximum number of points of each cloud used as queries of the distances.
        seed: seed of tracked points; frame f is sampled with `seed` + f.
        alignment: effort of the alignment.
    """

    points: int = 100_000
    alignment_points: int = 10_000
    queries: int = 10_000
    seed: int = 44
    alignment: AlignmentSettings = EXACT


@dataclass(frozen=True)
class GeometryScores:
    """Three distances in units of the ground truth, lower is better. `reasons` has the reason for each that is None."""

    cd_3d: float | None
    cd_4d: float | None
    cd_m: float | None
    reasons: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Clouds:
    """A prediction and its ground truth as points, all float32.

    Args:
        points: (T, P, 3), points of the prediction, not tracked.
        truth: (T, Q, 3), tracked points of the ground truth.
        alignment_points, alignment_truth: (T, A, 3) and (T, B, 3), subsets used for the alignment.
        tracked: (T, P, 3), tracked points of the prediction, or the reason why they are not available.
    """

    points: Tensor
    truth: Tensor
    alignment_points: Tensor
    alignment_truth: Tensor
    tracked: Tensor | str


def measure_geometry(prediction: Sequence[Surface], truth: Tensor, protocol: Protocol = Protocol()) -> GeometryScores:
    """Compute the three distances of one item.

    Args:
        prediction: one surface per frame, in the axes of the ground truth; frames beyond its last one are ignored.
        truth: (T, Q, 3) float32, tracked points; its device is used for the computation.

    Raises:
        FormatError: if the truth is not an array of finite points.
    """
    _check(truth)
    if len(prediction) < len(truth):
        return _not_available(f"the prediction has only {len(prediction)} of {len(truth)} frames")
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
    subset, true_subset = (subsample(cloud, protocol.alignment_points, protocol.seed) for cloud in (points, truth))
    return score_clouds(Clouds(points, truth, subset, true_subset, tracked), protocol)


def score_clouds(clouds: Clouds, protocol: Protocol = Protocol()) -> GeometryScores:
    """Compute the three distances from sampled points."""
    pairs = zip(clouds.alignment_points, clouds.alignment_truth, strict=True)
    poses = [align(points, truth, protocol.alignment) for points, truth in pairs]
    separate, joint = [], []
    for pose, points, truth in zip(poses, clouds.points, clouds.truth, strict=True):
        separate.append(chamfer_distance(pose.apply(points), truth, protocol.queries, protocol.seed))
        joint.append(chamfer_distance(poses[0].apply(points), truth, protocol.queries, protocol.seed))
    if isinstance(clouds.tracked, str):
        return GeometryScores(fmean(separate), fmean(joint), None, {"cd_m": clouds.tracked})
    motion = motion_chamfer_distance(poses[0].apply(clouds.tracked), clouds.truth)
    return GeometryScores(fmean(separate), fmean(joint), motion)


def _check(truth: Tensor) -> None:
    if truth.ndim != 3 or truth.shape[2] != 3 or 0 in truth.shape or truth.dtype != torch.float32:
        raise FormatError(
            f"the ground truth must be non-empty float32 (frames, points, 3), found {truth.dtype} {tuple(truth.shape)}"
        )
    if not truth.isfinite().all():
        raise FormatError("the ground truth has non-finite points")


def _not_available(reason: str) -> GeometryScores:
    return GeometryScores(None, None, None, dict.fromkeys(METRICS, reason))
