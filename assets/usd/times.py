"""Finds the time range of a stage: its declared range, limited to the times at which something visible changes."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
from pxr import Usd

from helix4d.core.arrays import Float64Array

_REACHED = 1e-6


@dataclass(frozen=True, eq=False)
class Timeline:
    """The time range of a stage's animation, in time codes.

    Attributes:
        start, end: first and last time of the animation.
        samples: (N,) float64 times of all time samples, sorted; N is at least 2.
    """

    start: float
    end: float
    samples: Float64Array

    def codes(self, times: Float64Array, rate: float) -> Float64Array:
        """Convert (T,) seconds to time codes; times within a millionth of the range of a sample are moved to it."""
        codes = times * rate
        after = np.clip(np.searchsorted(self.samples, codes), 1, len(self.samples) - 1)
        before = self.samples[after - 1]
        nearest = np.where(codes - before < self.samples[after] - codes, before, self.samples[after])
        return np.where(np.abs(nearest - codes) <= _REACHED * (self.end - self.start), nearest, codes)


def timeline(stage: Usd.Stage, attributes: Iterable[Usd.Attribute]) -> Timeline | None:
    """Return the time range of a stage's animation; None if nothing changes.

    This is the range of the time samples of `attributes`, cut to the range that the stage declares unless the two
    overlap in at most one time.

    Args:
        stage: the stage.
        attributes: attributes that may move, change or hide something visible.
    """
    found: set[float] = set()
    for attribute in attributes:
        if attribute.ValueMightBeTimeVarying():
            found.update(_times(attribute))
    if len(found) < 2:
        return None
    samples = np.array(sorted(found))
    start, end = float(samples[0]), float(samples[-1])
    if stage.HasAuthoredTimeCodeRange():
        low, high = max(start, float(stage.GetStartTimeCode())), min(end, float(stage.GetEndTimeCode()))
        if low < high:
            return Timeline(low, high, samples)
    return Timeline(start, end, samples)


def _times(attribute: Usd.Attribute) -> list[float]:
    samples = attribute.GetTimeSamples()
    if not samples and attribute.HasSpline():
        return [float(time) for time in attribute.GetSpline().GetKnots().keys()]  # noqa: SIM118 (not a dict)
    return [float(time) for time in samples]
