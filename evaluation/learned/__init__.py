"""Learned metrics: re-implemented networks with published weights, which the user downloads (docs/evaluation.md)."""

from helix4d.evaluation.learned.frechet import frechet_distance
from helix4d.evaluation.learned.weights import Networks, WeightFile

__all__ = ["Networks", "WeightFile", "frechet_distance"]
