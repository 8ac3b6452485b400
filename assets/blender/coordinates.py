"""Reads the texture coordinates of an image: its UV layer and the transforms of Mapping nodes."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np

from helix4d.assets.blender.graph import Origin, UnreadableError, label, origin
from helix4d.assets.clip import Wrap
from helix4d.core.arrays import Float64Array

_WRAPS = {"EXTEND": Wrap.CLAMP, "CLIP": Wrap.CLAMP, "MIRROR": Wrap.MIRROR}
_IDENTITY = (1.0, 0.0, 0.0, 0.0, 1.0, 0.0)
_TOLERANCE = 1e-6
Affine = tuple[float, float, float, float, float, float]


@dataclass(frozen=True)
class Transform:
    """A texture transform of glTF, which `Texture` describes."""

    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


@dataclass(frozen=True)
class Placement:
    """Texture coordinates and wrapping of an image.

    Attributes:
        layer: name of the UV layer; "" is the one that is active for rendering.
        matrix: rows of the (2, 3) matrix that maps UVs to those of the image, with v up as in Blender.
        wrap: wrap mode of both axes.
        nearest: whether texels are shown without interpolation.
    """

    layer: str = ""
    matrix: Affine = _IDENTITY
    wrap: Wrap = Wrap.REPEAT
    nearest: bool = False

    def transform(self) -> Transform | None:
        """Return the matrix as a transform of UVs with v down; None if it is not one, because it has shear."""
        if self.matrix == _IDENTITY:
            return Transform()
        matrix = np.array(self.matrix).reshape(2, 3)
        flip, top = np.diag([1.0, -1.0]), np.array([0.0, 1.0])  # v down = 1 − v up
        linear = flip @ matrix[:, :2] @ flip
        offset = flip @ (matrix[:, :2] @ top + matrix[:, 2]) + top
        scale_u = float(np.hypot(*linear[:, 0]))
        cosine, sine = (linear[0, 0] / scale_u, -linear[1, 0] / scale_u) if scale_u else (1.0, 0.0)
        scale_v = float(linear[0, 1] * sine + linear[1, 1] * cosine)
        if not np.allclose(linear[:, 1], [scale_v * sine, scale_v * cosine], atol=_TOLERANCE):
            return None
        return Transform((float(offset[0]), float(offset[1])), math.atan2(sine, cosine), (scale_u, scale_v))


def placement(node: Any, groups: tuple[Any, ...], warn: Callable[[str], None]) -> Placement:
    """Return the placement of the image of an Image Texture node; UVs, with a warning, if it cannot be read.

    Args:
        node: the Image Texture node.
        groups: group nodes around it.
        warn: receives messages.
    """
    if node.extension == "CLIP":
        warn(f"{label(node)}: the extension Clip is not supported: Extend is used")
    if node.projection != "FLAT":
        warn(f"{label(node)}: the projection {node.projection} is not supported: UVs are used")
    wrap, nearest = _WRAPS.get(node.extension, Wrap.REPEAT), node.interpolation == "Closest"
    try:
        layer, matrix = _coordinates(node.inputs["Vector"], groups)
    except UnreadableError as error:
        warn(f"{label(node)}: {error}: UVs are used as texture coordinates")
        layer, matrix = "", np.eye(4)
    a, b, x, c, d, y = (float(value) for value in matrix[:2, [0, 1, 3]].ravel())
    return Placement(layer, (a, b, x, c, d, y), wrap, nearest)


def _coordinates(socket: Any, groups: tuple[Any, ...]) -> tuple[str, Float64Array]:
    """Return the UV layer that drives a vector, and the (4, 4) matrix from its UVs to the vector."""
    found = origin(socket, groups)
    node = found.node
    if node is None:
        if socket.node.type == "TEX_IMAGE":  # without a link, Blender uses the UVs
            return "", np.eye(4)
        raise UnreadableError(f"{label(socket.node)} has no texture coordinates")
    if node.type == "UVMAP" and not node.from_instancer:
        return node.uv_map, np.eye(4)
    if node.type == "ATTRIBUTE" and node.attribute_type == "GEOMETRY":
        return node.attribute_name, np.eye(4)
    if node.type == "TEX_COORD" and found.socket.name == "UV" and not node.from_instancer:
        return "", np.eye(4)
    if node.type == "MAPPING":
        return _moved(node, found, _mapping(node, found.groups))
    if node.type == "VECT_MATH":
        return _computed(node, found)
    what = f"output {found.socket.name!r} of " if len(node.outputs) > 1 else ""
    raise UnreadableError(f"{what}{label(node)} is not supported")


def _moved(node: Any, found: Origin, matrix: Float64Array, side: int = 0) -> tuple[str, Float64Array]:
    layer, before = _coordinates(node.inputs[side], found.groups)
    return layer, matrix @ before


def _computed(node: Any, found: Origin) -> tuple[str, Float64Array]:
    """Return the result of a Vector Math node with one constant operand."""
    if node.operation == "SCALE":
        return _moved(node, found, np.diag([*[_constant(node.inputs["Scale"], found.groups)[0]] * 3, 1.0]))
    first = origin(node.inputs[0], found.groups)
    side = 1 if first.node is None else 0
    vector = _constant(node.inputs[1 - side], found.groups)
    matrix = np.eye(4)
    if node.operation == "ADD" or (node.operation == "SUBTRACT" and side == 0):
        matrix[:3, 3] = vector if node.operation == "ADD" else -vector
    elif node.operation == "MULTIPLY" or (node.operation == "DIVIDE" and side == 0 and vector[:2].all()):
        matrix[:2, :2] = np.diag(vector[:2] if node.operation == "MULTIPLY" else 1 / vector[:2])
    else:
        raise UnreadableError(f"{label(node)} is not supported")
    return _moved(node, found, matrix, side)


def _mapping(node: Any, groups: tuple[Any, ...]) -> Float64Array:
    """Return the (4, 4) matrix of a Mapping node."""
    location, rotation, scale = (
        _constant(node.inputs[name], groups) if name in node.inputs else np.zeros(3)
        for name in ("Location", "Rotation", "Scale")
    )
    turn = _euler(rotation)
    matrix = np.eye(4)
    if node.vector_type == "POINT":
        matrix[:3, :3], matrix[:3, 3] = turn @ np.diag(scale), location
    elif node.vector_type == "VECTOR":
        matrix[:3, :3] = turn @ np.diag(scale)
    elif node.vector_type == "TEXTURE":
        inverse = np.diag([1 / value if value else 1.0 for value in scale]) @ turn.T
        matrix[:3, :3], matrix[:3, 3] = inverse, -inverse @ location
    else:
        raise UnreadableError(f"{label(node)} of type {node.vector_type} is not supported")
    return matrix


def _euler(angles: Float64Array) -> Float64Array:
    """Return the matrix of rotations about x, then y, then z."""
    (cx, cy, cz), (sx, sy, sz) = np.cos(angles), np.sin(angles)
    about_x = np.array([[1, 0, 0], [0, cx, -sx], [0, sx, cx]])
    about_y = np.array([[cy, 0, sy], [0, 1, 0], [-sy, 0, cy]])
    about_z = np.array([[cz, -sz, 0], [sz, cz, 0], [0, 0, 1]])
    return np.asarray(about_z @ about_y @ about_x, np.float64)


def _constant(socket: Any, groups: tuple[Any, ...]) -> Float64Array:
    """Return the (3,) constant value of a socket."""
    found = origin(socket, groups)
    if found.node is not None and found.node.type == "COMBXYZ":
        return np.array([_constant(own, found.groups)[0] for own in found.node.inputs])
    if found.node is not None and found.node.type != "VALUE":
        raise UnreadableError(f"{label(socket.node)}: {socket.name} comes from {label(found.node)}, not a constant")
    value = found.socket.default_value
    return (
        np.full(3, float(value)) if isinstance(value, float | int) else np.array([float(v) for v in tuple(value)[:3]])
    )
