"""Metrics that are networks: re-implemented, with published weights that the user brings.

Table of metrics, weights and choices: docs/evaluation.md.
"""

from evaluation.learned.frechet import frechet_distance
from evaluation.learned.metrics import learned_metrics
from evaluation.learned.weights import Networks, WeightFile

__all__ = ["Networks", "WeightFile", "frechet_distance", "learned_metrics"]
