"""All metrics, and the choice among them by name."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from helix4d.core import ConfigError
from helix4d.evaluation.geometry.protocol import Protocol
from helix4d.evaluation.metrics.geometry import geometry_metrics
from helix4d.evaluation.metrics.learned import learned_metrics
from helix4d.evaluation.metrics.metric import Measure


def metrics(protocol: Protocol | None = None, weights: Path | None = None) -> tuple[Measure, ...]:
    """All metrics, in the order of the tables' columns.

    Args:
        protocol: of the distances; None is ActionBench's.
        weights: folder of the published weights of learned metrics; without it they say how to fetch them.

    Names that the paper's tables have: cd_3d, cd_4d, cd_m, clip, clip_n, ulip_2, uni3d, dreamsim, fvd. Ours: lpips.
    """
    return (*geometry_metrics(protocol), *learned_metrics(weights))


def choose(names: Iterable[str], known: Sequence[Measure]) -> tuple[Measure, ...]:
    """The metrics of these names, in the order of `known`.

    Raises:
        ConfigError: for a name that no metric has.
    """
    wanted = set(names)
    if unknown := wanted - {metric.name for metric in known}:
        listed = ", ".join(metric.name for metric in known)
        raise ConfigError(f"no metric {', '.join(sorted(unknown))}: there are {listed}")
    return tuple(metric for metric in known if metric.name in wanted)
