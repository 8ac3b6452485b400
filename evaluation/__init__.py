"""Evaluate predictions: the geometry metrics of ActionBench.

See docs/evaluation.md for definitions, sources and directions.
"""

from helix4d.evaluation.geometry.alignment import EXACT, PRUNED, AlignmentSettings, Pose, align
from helix4d.evaluation.geometry.chamfer import chamfer_distance, motion_chamfer_distance
from helix4d.evaluation.geometry.protocol import Clouds, GeometryScores, Protocol, measure_geometry, score_clouds
from helix4d.evaluation.geometry.sampling import Surface, sample_surface, sample_tracked, subsample

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
