"""List all metrics and select them by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.protocol import Protocol
from helix4d.evaluation.metrics.geometry import geometry_metrics
from helix4d.evaluation.metrics.learned import learned_metrics
from helix4d.evaluation.metrics.metric import Measure


def metrics(protocol: Protocol | None = None, weights: Path | None = None) -> tuple[Measure, ...]:
    """Return all metrics, in the order of the tables' columns.

    The paper's metrics are cd_3d, cd_4d, cd_m, clip, clip_n, ulip_2, uni3d, dreamsim and FVD, either as fvd_set or as
    fvd_pair (the paper does not state which). All other metrics are our additions.

    Args:
        protocol: protocol of the distances; by default ActionBench's.
        weights: folder with the published weights of learned metrics; without it these metrics are not available and
            report how to download the weights.
    """
    return (*geometry_metrics(protocol), *learned_metrics(weights))


def choose(names: Iterable[str], known: Sequence[Measure]) -> tuple[Measure, ...]:
    """Return the metrics with these names, in the order of `known`.

    Raises:
        ConfigError: if a name is unknown.
    """
    chosen = set(names)
    if unknown := chosen - {metric.name for metric in known}:
        listed = ", ".join(metric.name for metric in known)
        raise ConfigError(f"unknown metric {', '.join(sorted(unknown))}: must be one of {listed}")
    return tuple(metric for metric in known if metric.name in chosen)
