"""Evaluates the samplers of animations: STEP, LINEAR, BEZIER and HERMITE segments, in float64.

Source: COLLADA 1.4.1, section "Curve Interpolation". The first and last values are held outside the keys.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from xml.etree.ElementTree import Element

import numpy as np
from numpy.typing import NDArray

from helix4d.assets.collada.document import Document
from helix4d.assets.collada.sources import Input, inputs, named, source_names, source_numbers
from helix4d.assets.collada.transforms import Parts, taken_apart
from helix4d.core import ReasonCode
from helix4d.core.arrays import Float64Array

_KINDS = ("STEP", "LINEAR", "BEZIER", "HERMITE")
_TOLERANCE_S = 1e-5
"""Tolerance for key times, which are rounded to five decimals or six digits in the text."""
_HOLDS = ("CONSTANT", "UNDEFINED")


@dataclass(frozen=True, eq=False)
class Curve:
    """Keys of one sampler.

    Attributes:
        times: (K,) float64 seconds, non-decreasing.
        values: (K, C) float64.
        kinds: (K,) interpolation from each key to the next.
        handles: (2, K, C, 2) Bézier control points before and after each key, each a time and a value; None without
            curved segments.
        parts: the decomposed keys of whole matrices (C = 16), of which rotations are interpolated as quaternions.
    """

    times: Float64Array
    values: Float64Array
    kinds: NDArray[np.str_]
    handles: Float64Array | None
    parts: Parts | None = None

    def at(self, times: Float64Array) -> Float64Array:
        """Return the (T, C) values at (T,) times in seconds."""
        keys, values = self.times, self.values
        tolerance = max(_TOLERANCE_S, 1e-6 * abs(float(keys[-1])))
        key = np.maximum(np.searchsorted(keys, times + tolerance, side="right") - 1, 0)
        following = np.minimum(key + 1, len(keys) - 1)
        spans = keys[following] - keys[key]
        passed = np.maximum(times - keys[key], 0.0)
        shares = np.where((spans > 0) & (self.kinds[key] != "STEP"), passed / np.where(spans > 0, spans, 1.0), 0.0)
        found = values[key] + shares[:, None] * (values[following] - values[key])
        between = np.flatnonzero(shares > 0)
        if self.parts is not None and len(between):
            found[between] = self.parts.between(key[between], shares[between]).reshape(-1, 16)
        if self.handles is not None:
            for slot in between[self.kinds[key[between]] != "LINEAR"]:
                found[slot] = self._curved(self.handles, int(key[slot]), float(times[slot]))
        return np.asarray(found)

    def of_matrices(self) -> Curve:
        """Return the curve of whole matrices, decomposed unless they contain shear."""
        return replace(self, parts=taken_apart(self.values.reshape(-1, 4, 4)))

    def _curved(self, handles: Float64Array, key: int, time: float) -> Float64Array:
        start, end = float(self.times[key]), float(self.times[key + 1])
        shares: dict[tuple[float, float], float] = {}
        found = np.empty(self.values.shape[1])
        for column in range(len(found)):
            (leaving, second), (arriving, third) = (
                handles[1, key, column].tolist(),
                handles[0, key + 1, column].tolist(),
            )
            if (leaving, arriving) not in shares:
                # Handles that reach past the other key would let time run backwards.
                inner = min(max(leaving, start), end), min(max(arriving, start), end)
                shares[leaving, arriving] = _share((start, *inner, end), time)
            first, fourth = float(self.values[key, column]), float(self.values[key + 1, column])
            found[column] = _bezier((first, second, third, fourth), shares[leaving, arriving])
        return found


def read_curve(document: Document, sampler: Element) -> Curve | None:
    """Read a sampler; None if it has no keys.

    Raises:
        AssetError: invalid_accessor if its arrays do not match; non_finite_geometry.
    """
    where = named(sampler)
    by_name = {entry.semantic: entry for entry in inputs(document, sampler, where)}
    if "INPUT" not in by_name or "OUTPUT" not in by_name:
        raise document.fail(ReasonCode.INVALID_ACCESSOR, f"{where}: has no INPUT and OUTPUT")
    times = source_numbers(document, by_name["INPUT"].source)[:, 0]
    values = source_numbers(document, by_name["OUTPUT"].source)
    if not len(times):
        document.warn(f"{where}: has no keys: ignored")
        return None
    if len(values) != len(times):
        message = f"{where}: {len(times):,} times, but {len(values):,} values"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    if not (np.isfinite(times).all() and np.isfinite(values).all()):
        raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: keys contain NaN or infinity")
    if (backwards := np.diff(times) < 0).any():
        message = f"{where}: key times must not decrease, but do after {times[backwards.argmax()]:g} s"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    for behavior in ("pre_behavior", "post_behavior"):
        if sampler.get(behavior, "CONSTANT") not in _HOLDS:
            document.warn(f"{where}: {behavior} {sampler.get(behavior, '')[:20]} is not supported: the last key holds")
    kinds = _kinds(document, by_name.get("INTERPOLATION"), len(times), where)
    handles = None
    if np.isin(kinds[:-1], ("BEZIER", "HERMITE")).any():
        handles = _handles(document, by_name, times, values, kinds)
        kinds = kinds if handles is not None else np.where(kinds == "STEP", "STEP", "LINEAR")
    return Curve(times, values, kinds, handles)


def _kinds(document: Document, entry: Input | None, count: int, where: str) -> NDArray[np.str_]:
    if entry is None:
        return np.full(count, "LINEAR")
    names = source_names(document, entry.source)
    if len(names) < count:
        message = f"{where}: {count:,} keys, but {len(names):,} interpolations"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    unknown = next((name for name in names[:count] if name not in _KINDS), None)
    if unknown is not None:
        document.warn(f"{where}: the interpolation {unknown[:20]} is not supported: LINEAR is used")
    return np.array([name if name in _KINDS else "LINEAR" for name in names[:count]])


def _handles(
    document: Document, by_name: dict[str, Input], times: Float64Array, values: Float64Array, kinds: NDArray[np.str_]
) -> Float64Array | None:
    """Return the (2, K, C, 2) control points; those without times are a third of the way to the neighboring key."""
    where = named(by_name["OUTPUT"].source)
    if "IN_TANGENT" not in by_name or "OUT_TANGENT" not in by_name:
        document.warn(f"{where}: has curved segments without tangents: LINEAR is used")
        return None
    count, width = values.shape
    keys = np.stack([np.repeat(times[:, None], width, axis=1), values], axis=2)
    found = []
    for name, step in (("IN_TANGENT", -1), ("OUT_TANGENT", 1)):
        stored = source_numbers(document, by_name[name].source)
        if len(stored) != count or stored.shape[1] not in (width, 2 * width):
            shape = f"{stored.shape[0]:,} × {stored.shape[1]}"
            message = f"{where}: {count:,} keys of {width} values, but {shape} numbers in {name}"
            raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
        if not np.isfinite(stored).all():
            raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: {name} contains NaN or infinity")
        neighbors = np.clip(np.arange(count) + step, 0, count - 1)
        spans = np.abs(times[neighbors] - times)
        has_times = stored.shape[1] == 2 * width
        points = stored.reshape(count, width, -1)
        if not has_times:
            points = np.concatenate([keys[..., :1] + step * spans[:, None, None] / 3, points], axis=2)
        tangents = points.copy()  # of Hermite segments: directions of three times the length of a Bézier handle
        if not has_times:
            tangents[..., 0] = spans[:, None]
        segments = kinds if step > 0 else kinds[neighbors]
        found.append(np.where((segments == "HERMITE")[:, None, None], keys + step * tangents / 3, points))
    return np.stack(found)


def _share(times: tuple[float, float, float, float], time: float) -> float:
    """Return the curve parameter at which a Bézier curve with non-decreasing times reaches a time, by bisection."""
    low, high = 0.0, 1.0
    for _ in range(50):
        middle = (low + high) / 2
        if _bezier(times, middle) < time:
            low = middle
        else:
            high = middle
    return (low + high) / 2


def _bezier(points: tuple[float, float, float, float], share: float) -> float:
    rest = 1 - share
    return rest * rest * (rest * points[0] + 3 * share * points[1]) + share * share * (
        3 * rest * points[2] + share * points[3]
    )
