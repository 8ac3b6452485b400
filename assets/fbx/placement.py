"""Placement of a texture: its UV set, wrap modes, and tiling as a glTF texture transform."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import ufbx

from helix4d.assets.clip import Wrap
from helix4d.core.arrays import Float64Array


@dataclass(frozen=True)
class Placement:
    """A UV set, wrap modes, and the transform of `Texture`."""

    uv_set: str = ""
    wrap_u: Wrap = Wrap.REPEAT
    wrap_v: Wrap = Wrap.REPEAT
    offset: tuple[float, float] = (0.0, 0.0)
    rotation: float = 0.0
    scale: tuple[float, float] = (1.0, 1.0)


def placement(texture: Any, from_blender: bool) -> Placement:
    """Return the placement of a texture.

    `Scaling` is the number of repetitions, as 3ds Max and Unity write it and Unreal, three.js and Assimp read it
    (assimp/assimp#2043, mrdoob/three.js#23834). ufbx interprets it the other way around, so its matrix is not used.

    Args:
        texture: the texture.
        from_blender: whether Blender wrote the file; Blender encodes the UV transform differently.
    """
    plain = Placement(str(texture.uv_set), _wrap(texture.wrap_u), _wrap(texture.wrap_v))
    if not texture.has_uv_transform:
        return plain
    found = _blender_matrix(texture) if from_blender else np.array(texture.texture_to_uv)[[0, 1, 3], :2].T
    return _decomposed(found, plain) if np.isfinite(found).all() else plain


def _wrap(mode: int) -> Wrap:
    return Wrap.CLAMP if mode == ufbx.WrapMode.CLAMP else Wrap.REPEAT


def _blender_matrix(texture: Any) -> Float64Array:
    """Return the (2, 3) matrix of a Mapping node: scaled, turned, then moved.

    The exporter writes the inverse of the scale, and the opposite of the angle in radians, but the offset as it is.
    """
    scaling, turn = _stated(texture, "Scaling", (1.0, 1.0, 1.0)), _stated(texture, "Rotation", (0.0, 0.0, 0.0))
    shift = _stated(texture, "Translation", (0.0, 0.0, 0.0))
    su, sv = (1.0 / value if value else 1.0 for value in scaling[:2])
    c, s = math.cos(-turn[2]), math.sin(-turn[2])
    return np.array([[c * su, -s * sv, shift[0]], [s * su, c * sv, shift[1]]])


def _stated(texture: Any, name: str, default: tuple[float, ...]) -> tuple[float, ...]:
    found = texture.props.find_prop(name)
    return default if found is None else tuple(found.value_vec4[:3])


def _decomposed(matrix: Float64Array, plain: Placement) -> Placement:
    """Turn a (2, 3) transform of UVs whose v points up, scaled before it is turned, into that of `Texture`."""
    flip = np.diag([1.0, -1.0])
    linear = flip @ matrix[:, :2] @ flip
    shift = flip @ matrix[:, 2] + [0.0, 1.0] - linear @ [0.0, 1.0]
    su = float(np.hypot(*linear[:, 0]))
    angle = math.atan2(-linear[1, 0], linear[0, 0]) if su else math.atan2(linear[0, 1], linear[1, 1])
    sv = float(linear[0, 1] * math.sin(angle) + linear[1, 1] * math.cos(angle))
    return replace(plain, offset=(float(shift[0]), float(shift[1])), rotation=angle, scale=(su, sv))
