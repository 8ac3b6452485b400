"""The takes of a file. Each has layers of curves, and a start and stop."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.fbx.binding import items, kept
from helix4d.core.arrays import Float64Array

_PLACING = frozenset(
    {
        *("Lcl Translation", "Lcl Rotation", "Lcl Scaling", "PreRotation", "PostRotation", "RotationPivot"),
        *("RotationOffset", "ScalingPivot", "ScalingOffset", "GeometricTranslation", "GeometricRotation"),
        *("GeometricScaling", "Visibility", "DeformPercent", "Weight"),
    }
)
"""Properties that move, deform or hide what is shown; `Weight` is that of a layer."""
_LOOKS = (ufbx.Material, ufbx.Texture)


@dataclass(frozen=True, eq=False)
class Take:
    """An animation stack.

    Attributes:
        name: its name.
        start, end: first and last time in seconds.
        anim: what ufbx evaluates.
        ticks: time steps per second in the file.
    """

    name: str
    start: float
    end: float
    anim: Any
    ticks: int

    def on_ticks(self, times: Float64Array) -> Float64Array:
        """Return times rounded to the file's time steps, like those of keys, so that a step takes effect at its key."""
        return np.rint(times * self.ticks) / self.ticks


@dataclass(frozen=True)
class _Span:
    start: float
    end: float
    moves_something: bool


def read_takes(scene: Any, movers: frozenset[int], warn: Callable[[str], None]) -> list[Take]:
    """Return the takes with keys, in file order.

    A take spans the keys of the properties that move something visible, or all keys if nothing visible moves. This is
    limited to the declared range, unless the two overlap in at most one time. A curve that repeats extends to the end
    of the declared range.

    Args:
        scene: the file's scene.
        movers: elements that move, deform or hide something visible.
        warn: receives messages about unsupported features.
    """
    takes = []
    for stack in items(scene.anim_stacks):
        spans = list(_spans(stack, movers, warn))
        used = [span for span in spans if span.moves_something] or spans
        if not used:
            continue
        start, end = min(span.start for span in used), max(span.end for span in used)
        low, high = max(start, stack.time_begin), min(end, stack.time_end)
        if low < high:
            start, end = low, high
        takes.append(Take(stack.name, start, end, stack.anim, scene.metadata.ktime_second))
    return takes


def stored_pose(scene: Any) -> Take:
    """Return a take that shows the scene as it is stored, without an animation."""
    return Take("", 0.0, 0.0, scene.anim, scene.metadata.ktime_second)


def _spans(stack: Any, movers: frozenset[int], warn: Callable[[str], None]) -> Iterator[_Span]:
    layers = list(items(stack.layers))
    own_layers = {layer.element_id for layer in layers}
    for layer in layers:
        for animated in layer.anim_props:
            element, name = kept(animated.element), animated.prop_name
            if isinstance(element, _LOOKS):
                warn(f"{element.name}: {name} is animated, which is not supported: its stored value is used")
                continue
            moves = name in _PLACING and (element.element_id in movers or element.element_id in own_layers)
            for curve in items(kept(animated.anim_value).curves):
                if curve is None or not len(curve.keyframes):
                    continue
                span = _range_of(curve, stack)
                if np.isfinite(span).all():
                    yield _Span(*span, moves)


def _range_of(curve: Any, stack: Any) -> tuple[float, float]:
    start, end = float(curve.min_time), float(curve.max_time)
    if curve.pre_extrapolation.mode != ufbx.ExtrapolationMode.CONSTANT:
        start = min(start, stack.time_begin)
    if curve.post_extrapolation.mode != ufbx.ExtrapolationMode.CONSTANT:
        end = max(end, stack.time_end)
    return start, end
