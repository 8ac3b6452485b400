"""The time range of a stage: the one that it declares, as far as something visible changes in it."""

from __future__ import annotations

from collections.abc import Iterable

from pxr import Usd


def time_range(stage: Usd.Stage, attributes: Iterable[Usd.Attribute]) -> tuple[float, float] | None:
    """Return the first and last time code of the animation, or None without any.

    This is the range of the samples of what moves something visible. A range that the stage declares cuts it, unless
    it holds a single moment of the samples or none.

    Args:
        stage: the stage.
        attributes: what may move, change or hide something visible.
    """
    found: set[float] = set()
    for attribute in attributes:
        if attribute.ValueMightBeTimeVarying():
            found.update(_times(attribute))
    if not found:
        return None
    start, end = min(found), max(found)
    if stage.HasAuthoredTimeCodeRange():
        low, high = max(start, stage.GetStartTimeCode()), min(end, stage.GetEndTimeCode())
        if low < high:
            return low, high
    return start, end


def _times(attribute: Usd.Attribute) -> list[float]:
    samples = attribute.GetTimeSamples()
    if not samples and attribute.HasSpline():
        return [float(time) for time in attribute.GetSpline().GetKnots().keys()]  # noqa: SIM118 (not a dict)
    return [float(time) for time in samples]
