"""Animation keys: quaternions, curves sampled at given times, and bouncing bodies."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helix4d.assets.samples.glb import Track
from helix4d.assets.samples.shapes import Vector
from helix4d.core.arrays import Float64Array

_GRAVITY_M_S2 = 9.81


def axis_angle(axis: Vector, angle_rad: Float64Array | float) -> Float64Array:
    """Return (..., 4) quaternions (x, y, z, w) that rotate by (...) radians about `axis`."""
    direction = np.asarray(axis, float) / np.linalg.norm(axis)
    half = np.asarray(angle_rad, float)[..., None] / 2
    return np.concatenate([np.sin(half) * direction, np.cos(half)], axis=-1)


def multiply(first: Float64Array, second: Float64Array) -> Float64Array:
    """Return the (..., 4) rotation that applies `second`, then `first`."""
    a, b = np.broadcast_arrays(first, second)
    vector = a[..., 3:] * b[..., :3] + b[..., 3:] * a[..., :3] + np.cross(a[..., :3], b[..., :3])
    scalar = a[..., 3:] * b[..., 3:] - np.sum(a[..., :3] * b[..., :3], axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1)


def matrix(quaternion: Float64Array) -> Float64Array:
    """Return the (3, 3) rotation matrix of a (4,) quaternion."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turn(axis: Vector, degrees: float) -> Float64Array:
    """Return the (3, 3) rotation matrix about `axis` by an angle in degrees."""
    return matrix(axis_angle(axis, np.radians(degrees)))


def sampled(
    node: int, path: str, times: Float64Array, curve: Callable[[Float64Array], Float64Array], cubic: bool = False
) -> Track:
    """Return a track with keys on `curve`, which maps (K,) seconds to (K, n); cubic keys also store its slopes."""
    values = curve(times)
    if path == "rotation":
        values = continuous(values)
    if not cubic:
        return Track(node, path, times, values)
    step_s = 1e-4
    before, after = curve(times - step_s), curve(times + step_s)
    if path == "rotation":
        before, after = _same_side(values, before), _same_side(values, after)
    return Track(node, path, times, values, "CUBICSPLINE", (after - before) / (2 * step_s))


def continuous(quaternions: Float64Array) -> Float64Array:
    """Return the same (K, 4) rotations without sign changes between keys."""
    result = quaternions.copy()
    for key in range(1, len(result)):
        if result[key] @ result[key - 1] < 0:
            result[key] = -result[key]
    return result


def smoothstep(values: Float64Array) -> Float64Array:
    """Ease from 0 (at 0 and below) to 1 (at 1 and above)."""
    clipped = np.clip(values, 0.0, 1.0)
    return clipped * clipped * (3 - 2 * clipped)


def flight(
    start: Float64Array, velocity: Float64Array, times: Float64Array, floor: float, bounce: float = 0.35
) -> Float64Array:
    """Return (K, 3) positions of a body thrown at time 0, which bounces on the plane y = floor and slides to rest.

    Args:
        start: (3,) position in meters.
        velocity: (3,) velocity in meters per second.
        times: (K,) times in seconds.
        floor: lowest height of the body's center.
        bounce: fraction of the vertical speed that remains after a bounce.
    """
    step_s = 1 / 960
    position, speed = np.array(start, float), np.array(velocity, float)
    fine = [position.copy()]
    for _ in range(round(float(times[-1]) / step_s) + 1):
        speed[1] -= _GRAVITY_M_S2 * step_s
        position = position + speed * step_s
        if position[1] < floor:
            position[1] = floor
            speed[1] = -speed[1] * bounce if speed[1] < -0.3 else 0.0
            speed[[0, 2]] *= 0.6 if speed[1] > 0 else 0.985
        fine.append(position.copy())
    path = np.array(fine)
    fine_times = np.arange(len(path)) * step_s
    return np.stack([np.interp(times, fine_times, path[:, axis]) for axis in range(3)], axis=-1)


def _same_side(reference: Float64Array, quaternions: Float64Array) -> Float64Array:
    sign = np.where(np.sum(reference * quaternions, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    return quaternions * sign
