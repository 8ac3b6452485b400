"""Keys of motion: quaternions, evenly keyed curves and the flight of pieces."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from helix4d.assets.gltf.writer import Track, Vector

_GRAVITY_M_S2 = 9.81


def axis_angle(axis: Vector, angle_rad: np.ndarray | float) -> np.ndarray:
    """(..., 4) quaternions x, y, z, w that turn about `axis` by (...) radians."""
    direction = np.asarray(axis, float) / np.linalg.norm(axis)
    half = np.asarray(angle_rad, float)[..., None] / 2
    return np.concatenate([np.sin(half) * direction, np.cos(half)], axis=-1)


def multiply(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(..., 4) the rotation that does `second`, then `first`."""
    a, b = np.broadcast_arrays(first, second)
    vector = a[..., 3:] * b[..., :3] + b[..., 3:] * a[..., :3] + np.cross(a[..., :3], b[..., :3])
    scalar = a[..., 3:] * b[..., 3:] - np.sum(a[..., :3] * b[..., :3], axis=-1, keepdims=True)
    return np.concatenate([vector, scalar], axis=-1)


def matrix(quaternion: np.ndarray) -> np.ndarray:
    """(3, 3) rotation of a (4,) quaternion."""
    x, y, z, w = quaternion
    return np.array(
        [
            [1 - 2 * (y * y + z * z), 2 * (x * y - z * w), 2 * (x * z + y * w)],
            [2 * (x * y + z * w), 1 - 2 * (x * x + z * z), 2 * (y * z - x * w)],
            [2 * (x * z - y * w), 2 * (y * z + x * w), 1 - 2 * (x * x + y * y)],
        ]
    )


def turn(axis: Vector, degrees: float) -> np.ndarray:
    """(3, 3) rotation about `axis`."""
    return matrix(axis_angle(axis, np.radians(degrees)))


def sampled(
    node: int, path: str, times: np.ndarray, curve: Callable[[np.ndarray], np.ndarray], cubic: bool = False
) -> Track:
    """A track whose keys lie on `curve`, which maps (K,) seconds to (K, n); cubic keys take its slopes along."""
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


def continuous(quaternions: np.ndarray) -> np.ndarray:
    """(K, 4) the same rotations without jumps of sign from key to key."""
    result = quaternions.copy()
    for key in range(1, len(result)):
        if result[key] @ result[key - 1] < 0:
            result[key] = -result[key]
    return result


def smoothstep(values: np.ndarray) -> np.ndarray:
    """0 below 0, 1 above 1, an easing in between."""
    clipped = np.clip(values, 0.0, 1.0)
    return clipped * clipped * (3 - 2 * clipped)


def flight(
    start: np.ndarray, velocity: np.ndarray, times: np.ndarray, floor: float, bounce: float = 0.35
) -> np.ndarray:
    """(K, 3) positions of a body thrown at time 0 that bounces on the plane y = floor and slides to rest.

    Args:
        start: (3,) meters.
        velocity: (3,) meters per second.
        times: (K,) seconds.
        floor: lowest height of the body's center.
        bounce: the part of the vertical speed that a bounce keeps.
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


def _same_side(reference: np.ndarray, quaternions: np.ndarray) -> np.ndarray:
    sign = np.where(np.sum(reference * quaternions, axis=-1, keepdims=True) < 0, -1.0, 1.0)
    return quaternions * sign
