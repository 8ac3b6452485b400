"""Predictions become numbers: the geometry metrics of ActionBench.

Definitions, sources and directions: docs/evaluation.md.
"""

from evaluation.alignment import EXACT, PRUNED, AlignmentSettings, Pose, align
from evaluation.chamfer import chamfer_distance, motion_chamfer_distance
from evaluation.geometry import Clouds, GeometryScores, Protocol, measure_geometry, score_clouds
from evaluation.sampling import Surface, sample_surface, sample_tracked, subsample

__all__ = [
    "EXACT",
    "PRUNED",
    "AlignmentSettings",
    "Clouds",
    "GeometryScores",
    "Pose",
    "Protocol",
    "Surface",
    "align",
    "chamfer_distance",
    "measure_geometry",
    "motion_chamfer_distance",
    "sample_surface",
    "sample_tracked",
    "score_clouds",
    "subsample",
]
