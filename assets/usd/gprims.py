"""Tessellates USD's geometric primitives: cubes, spheres, cylinders, cones, capsules and planes.

Round primitives have 32 segments. Vertices are in the space of the prim, with smooth normals except at edges.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from types import MappingProxyType

import numpy as np
from pxr import Usd

from helix4d.core.arrays import Float64Array, Int64Array

_SEGMENTS = 32
_Solid = tuple[Float64Array, Float64Array, Int64Array]


def gprim(prim: Usd.Prim, time: float) -> _Solid:
    """Return the (V, 3) points, (V, 3) unit normals and (F, 3) faces of a prim whose type is in `GPRIMS`."""
    name = str(prim.GetTypeName())
    points, normals, faces = GPRIMS[name](prim, time)
    if name not in ("Cube", "Sphere"):
        turn = {"X": [2, 0, 1], "Y": [1, 2, 0]}.get(prim.GetAttribute("axis").Get(time), [0, 1, 2])
        points, normals = points[:, turn], normals[:, turn]
    return points, normals, faces


def _number(prim: Usd.Prim, name: str, time: float) -> float:
    return float(prim.GetAttribute(name).Get(time))


def _cube(prim: Usd.Prim, time: float) -> _Solid:
    sides = []
    for axis in range(3):
        for sign in (-1.0, 1.0):
            u, v, n = np.roll(np.eye(3), axis, axis=1)
            sides.append(([n * sign - u * sign - v, n * sign + u * sign - v, n * sign + u * sign + v,
                           n * sign - u * sign + v], n * sign))  # fmt: skip
    points = np.array([corner for corners, _ in sides for corner in corners])
    normals = np.repeat([normal for _, normal in sides], 4, axis=0)
    faces = (4 * np.arange(6)[:, None, None] + np.array([[0, 1, 2], [0, 2, 3]])).reshape(-1, 3)
    return points * _number(prim, "size", time) / 2, normals, faces


def _plane(prim: Usd.Prim, time: float) -> _Solid:
    corners = np.array([[-0.5, -0.5, 0], [0.5, -0.5, 0], [0.5, 0.5, 0], [-0.5, 0.5, 0]])
    sizes = (_number(prim, "width", time), _number(prim, "length", time))
    if prim.GetAttribute("axis").Get(time) != "Z":  # the width runs along z across x, and along x otherwise
        sizes = sizes[1], sizes[0]
    return corners * [*sizes, 1.0], np.tile([0.0, 0.0, 1.0], (4, 1)), np.array([[0, 1, 2], [0, 2, 3]])


def _sphere(prim: Usd.Prim, time: float) -> _Solid:
    radius = _number(prim, "radius", time)
    angles = np.linspace(-np.pi / 2, np.pi / 2, _SEGMENTS // 2 + 1)
    return _turned([_arc(radius, 0.0, angles)])


def _cylinder(prim: Usd.Prim, time: float) -> _Solid:
    radius = _number(prim, "radius", time)
    return _frustum(radius, radius, _number(prim, "height", time))


def _tapered_cylinder(prim: Usd.Prim, time: float) -> _Solid:
    bottom, top = _number(prim, "radiusBottom", time), _number(prim, "radiusTop", time)
    return _frustum(bottom, top, _number(prim, "height", time))


def _cone(prim: Usd.Prim, time: float) -> _Solid:
    return _frustum(_number(prim, "radius", time), 0.0, _number(prim, "height", time))


def _capsule(prim: Usd.Prim, time: float) -> _Solid:
    radius, half = _number(prim, "radius", time), _number(prim, "height", time) / 2
    return _hemispheres(radius, radius, half)


def _tapered_capsule(prim: Usd.Prim, time: float) -> _Solid:
    bottom, top = _number(prim, "radiusBottom", time), _number(prim, "radiusTop", time)
    return _hemispheres(bottom, top, _number(prim, "height", time) / 2)


def _frustum(bottom: float, top: float, height: float) -> _Solid:
    half, slope = height / 2, np.hypot(height, bottom - top) or 1.0
    out, up = height / slope, (bottom - top) / slope
    side = np.array([[bottom, -half, out, up], [top, half, out, up]])
    lower = np.array([[0.0, -half, 0.0, -1.0], [bottom, -half, 0.0, -1.0]])
    upper = np.array([[top, half, 0.0, 1.0], [0.0, half, 0.0, 1.0]])
    return _turned([lower, side, upper])


def _hemispheres(bottom: float, top: float, half: float) -> _Solid:
    slope = (bottom - top) / (2 * half) if half else 0.0
    edge, stretch = np.arctan(slope), np.hypot(1.0, slope)  # the caps are parts of spheres tangent to the side
    steps = np.linspace(0.0, 1.0, _SEGMENTS // 4 + 1)
    lower = _arc(bottom * stretch, -half - bottom * slope, -np.pi / 2 + steps * (edge + np.pi / 2))
    upper = _arc(top * stretch, half - top * slope, edge + steps * (np.pi / 2 - edge))
    return _turned([np.concatenate([lower, upper])])


def _arc(radius: float, height: float, angles: Float64Array) -> Float64Array:
    """Return an (N, 4) profile: distance from the axis, height, and the normal in the same two coordinates."""
    out, up = np.cos(angles), np.sin(angles)
    return np.stack([radius * out, height + radius * up, out, up], axis=1)


def _turned(profiles: list[Float64Array]) -> _Solid:
    """Revolve (N, 4) profiles, each from the bottom to the top, about the z axis."""
    angles = np.linspace(0, 2 * np.pi, _SEGMENTS, endpoint=False)
    around = np.stack([np.cos(angles), np.sin(angles)], axis=1)
    points: list[Float64Array] = []
    normals: list[Float64Array] = []
    faces: list[Int64Array] = []
    start = 0
    for profile in profiles:
        for column, rows in ((0, points), (2, normals)):
            ring = profile[:, None, column, None] * around
            up = np.broadcast_to(profile[:, None, column + 1, None], (*ring.shape[:2], 1))
            rows.append(np.concatenate([ring, up], axis=2).reshape(-1, 3))
        level = start + _SEGMENTS * np.arange(len(profile) - 1)[:, None]
        here, after = np.arange(_SEGMENTS), np.roll(np.arange(_SEGMENTS), -1)
        a, b, c, d = level + here, level + after, level + _SEGMENTS + after, level + _SEGMENTS + here
        faces.append(np.stack([np.stack([a, b, c], axis=-1), np.stack([a, c, d], axis=-1)], axis=2).reshape(-1, 3))
        start += _SEGMENTS * len(profile)
    return np.concatenate(points), np.concatenate(normals), np.concatenate(faces)


GPRIMS: Mapping[str, Callable[[Usd.Prim, float], _Solid]] = MappingProxyType(
    {
        "Cube": _cube,
        "Plane": _plane,
        "Sphere": _sphere,
        "Cylinder": _cylinder,
        "Cylinder_1": _tapered_cylinder,
        "Cone": _cone,
        "Capsule": _capsule,
        "Capsule_1": _tapered_capsule,
    }
)
