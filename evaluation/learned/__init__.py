"""Metrics that are networks: re-implemented, with published weights that the user brings.

Table of metrics, weights and choices: docs/evaluation.md.
"""

from helix4d.evaluation.learned.frechet import frechet_distance
from helix4d.evaluation.learned.weights import Networks, WeightFile

__all__ = ["Networks", "WeightFile", "frechet_distance"]
