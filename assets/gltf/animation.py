"""Evaluates keyframes at any time: STEP, LINEAR and CUBICSPLINE (glTF 2.0 appendix C), in float64."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from helix4d.assets.gltf.accessors import Accessors
from helix4d.assets.gltf.parse.checked import Checked, parse_each
from helix4d.assets.gltf.parse.material_settings import MaterialSetting
from helix4d.assets.gltf.parse.model import Animation, Channel, Interpolation, Property
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array

_COMPONENTS = {Property.TRANSLATION: 3, Property.ROTATION: 4, Property.SCALE: 3, Property.VISIBLE: 1}
_STEP_TOLERANCE = 1e-6
"""Key times are float32. A key closer than this fraction of the clip counts as reached, so that STEP does not depend on
how a multiple of 1/30 s was rounded."""

ROUNDED = 1e-3


@dataclass(frozen=True, eq=False)
class Track:
    """Keys of one channel.

    Attributes:
        target: index of the animated node (of the mesh for MESH_WEIGHTS, of the material for MATERIAL).
        element: index of the only morph weight that is animated, or None for all.
        times: (K,) float64 seconds, non-decreasing.
        values: (K, C) float64.
        tangents: (2, K, C) float64 in- and out-tangents for CUBICSPLINE, else None.
        setting: the material setting that MATERIAL animates, otherwise None.
    """

    target: int
    property: Property
    element: int | None
    interpolation: Interpolation
    times: Float64Array
    values: Float64Array
    tangents: Float64Array | None
    setting: MaterialSetting | None = None

    def at(self, time: float) -> Float64Array:
        """Return the (C,) float64 value at a time in seconds.

        The first and last key hold before and after them. Rotations are quaternions (x, y, z, w).
        """
        times, values = self.times, self.values
        tolerance = _STEP_TOLERANCE * max(float(times[-1] - times[0]), abs(float(times[-1])))
        if self.interpolation is Interpolation.STEP:
            key = int(np.searchsorted(times, time + tolerance, side="right")) - 1
            return values[max(key, 0), :]
        if time <= times[0]:
            return values[0, :]
        if time >= times[-1]:
            return values[-1, :]
        key = int(np.searchsorted(times, time, side="right")) - 1
        span = float(times[key + 1] - times[key])
        share = float((time - times[key]) / span)
        start, end = values[key, :], values[key + 1, :]
        if self.tangents is not None:
            incoming, outgoing = self.tangents[0, key + 1], self.tangents[1, key]
            value = hermite(start, outgoing, end, incoming, share, span)
            return unit(value) if self.property is Property.ROTATION else value
        if self.property is Property.ROTATION:
            return slerp(start, end, share)
        return start + share * (end - start)


@dataclass(frozen=True, eq=False)
class Motion:
    """An animation ready for sampling: its tracks, and the times of its first and last pose in seconds."""

    tracks: tuple[Track, ...]
    start: float
    end: float


def read_motions(accessors: Accessors) -> Checked[Motion]:
    """Decode the keys of every animation of a file.

    Errors are raised when an animation is used: invalid_accessor for inconsistent keys, non_finite_geometry for values
    that are NaN or infinite. `start` and `end` are the first and last key time of all tracks of an animation.
    """
    document = accessors.document
    morphs = {(True, number): mesh.targets for number, mesh in document.meshes.valid()}
    for number, node in enumerate(document.nodes):
        morphs[False, number] = 0 if node.mesh is None else morphs.get((True, node.mesh), 0)
    return parse_each(
        range(len(document.animations)), lambda index: _read_motion(document.animations[index], accessors, morphs)
    )


def time_range(tracks: Iterable[Track]) -> tuple[float, float] | None:
    """Return the times of the first and last key of all tracks; None if there are none."""
    times = [track.times for track in tracks]
    return _extent(times) if times else None


def _extent(times: list[Float64Array]) -> tuple[float, float]:
    return float(min(keys[0] for keys in times)), float(max(keys[-1] for keys in times))


def _read_motion(animation: Animation, accessors: Accessors, morphs: dict[tuple[bool, int], int]) -> Motion:
    tracks: list[Track] = []
    for channel in animation.channels:
        if channel.property is not Property.IGNORED:
            track = _read_track(channel, _read_times(channel, accessors), accessors, morphs)
            if track is not None:
                tracks.append(track)
    times = [track.times for track in tracks] or [_read_times(channel, accessors) for channel in animation.channels]
    start, end = _extent(times) if times else (0.0, 0.0)
    tracks.sort(key=lambda track: track.property is not Property.MESH_WEIGHTS)  # a node's weights replace its mesh's
    return Motion(tuple(tracks), start, end)


def hermite(
    start: Float64Array, outgoing: Float64Array, end: Float64Array, incoming: Float64Array, share: float, span: float
) -> Float64Array:
    """Evaluate a cubic Hermite spline; tangents are per second and scaled by the span (glTF 2.0 appendix C.5)."""
    s2, s3 = share**2, share**3
    return (
        (2 * s3 - 3 * s2 + 1) * start
        + span * (s3 - 2 * s2 + share) * outgoing
        + (3 * s2 - 2 * s3) * end
        + span * (s3 - s2) * incoming
    )


def slerp(start: Float64Array, end: Float64Array, share: float) -> Float64Array:
    """Interpolate (4,) unit quaternions spherically along the shorter arc (glTF 2.0 appendix C.4)."""
    if (start == end).all():
        return start
    cosine = float(start @ end)
    if cosine < 0:
        end, cosine = -end, -cosine
    if cosine > 1 - 1e-9:
        return start + share * (end - start)
    angle = float(np.arccos(cosine))
    from_start, from_end = float(np.sin((1 - share) * angle)), float(np.sin(share * angle))
    return (from_start * start + from_end * end) / float(np.sin(angle))


def nearly_unit(quaternions: Float64Array, tolerance: float = ROUNDED) -> Float64Array:
    """Normalize those of (N, 4) quaternions whose length differs from 1 by more than the tolerance.

    Files contain rounded values, such as 0.707 for √½. Like viewers, we use such keys unchanged, which scales the shape
    by the same small amount.
    """
    length = np.linalg.norm(quaternions, axis=1, keepdims=True)
    units = np.where(length > 1e-30, quaternions / np.maximum(length, 1e-30), [0.0, 0.0, 0.0, 1.0])
    return np.where(np.abs(length - 1) < tolerance, quaternions, units)


def unit(quaternion: Float64Array) -> Float64Array:
    """Normalize a quaternion; one of zero length becomes the identity."""
    length = float(np.linalg.norm(quaternion))
    return quaternion / length if length > 1e-30 else np.array([0.0, 0.0, 0.0, 1.0])


def _read_times(channel: Channel, accessors: Accessors) -> Float64Array:
    accessor = accessors.document.accessors[channel.input]
    if accessor.kind != "SCALAR":
        raise _invalid(accessors, channel, f"key times must be SCALAR, found {accessor.kind}")
    times = accessors.floats(channel.input)[:, 0]
    if not np.isfinite(times).all():
        raise _invalid(accessors, channel, "key times contain NaN or infinity")
    if (backwards := np.diff(times) < 0).any():
        raise _invalid(accessors, channel, f"key times must not decrease, but do after {times[backwards.argmax()]:g} s")
    return times


def _read_track(
    channel: Channel, times: Float64Array, accessors: Accessors, morphs: dict[tuple[bool, int], int]
) -> Track | None:
    if channel.property in (Property.WEIGHTS, Property.MESH_WEIGHTS):
        components = morphs.get((channel.property is Property.MESH_WEIGHTS, channel.target), 0)
        if components == 0:
            accessors.document.warn(f"{channel.where}: animates morph weights, but there are no morph targets: ignored")
            return None
        if channel.element is not None:
            if channel.element >= components:
                problem = f"animates morph weight {channel.element}, but there are {components:,} morph targets"
                accessors.document.warn(f"{channel.where}: {problem}: ignored")
                return None
            components = 1
    elif channel.setting is not None:
        components = channel.setting.components
    else:
        components = _COMPONENTS[channel.property]
    values = accessors.floats(channel.output)
    if channel.property is Property.VISIBLE:
        values = accessors.raw(channel.output).astype(np.float64)
    cubic = channel.interpolation is Interpolation.CUBICSPLINE
    expected = len(times) * components * (3 if cubic else 1)
    if values.size != expected or (values.shape[1] not in (1, components)):
        shape = f"{values.shape[0]} × {values.shape[1]}"
        message = f"{len(times):,} keys of {channel.property} need {expected:,} numbers, but the output is {shape}"
        raise _invalid(accessors, channel, message)
    if not np.isfinite(values).all():
        raise accessors.document.fail(
            ReasonCode.NON_FINITE_GEOMETRY, f"{channel.where}: keys of {channel.property} contain NaN or infinity"
        )
    tangents = None
    if cubic:
        triples = values.reshape(len(times), 3, components)
        tangents, values = np.stack([triples[:, 0], triples[:, 2]]), triples[:, 1]
    else:
        values = values.reshape(len(times), components)
    if channel.property is Property.ROTATION and not cubic:
        quantized = accessors.raw(channel.output).dtype.kind != "f"
        values = nearly_unit(values, 0.0 if quantized else ROUNDED)
    interpolation = Interpolation.STEP if channel.property is Property.VISIBLE else channel.interpolation
    return Track(
        channel.target, channel.property, channel.element, interpolation, times, values, tangents, channel.setting
    )


def _invalid(accessors: Accessors, channel: Channel, message: str) -> AssetError:
    return accessors.document.fail(ReasonCode.INVALID_ACCESSOR, f"{channel.where}: {message}")
