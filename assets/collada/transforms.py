"""Matrices of the transform elements of nodes, for column vectors: a node's is their product in document order.

Source: COLLADA 1.4.1, section "Node"; `<skew>` is RenderMan's.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import numpy as np

from helix4d.assets.gltf.scene import compose
from helix4d.core.arrays import Float64Array, Int64Array

SIZES: Mapping[str, int] = MappingProxyType(
    {"matrix": 16, "translate": 3, "rotate": 4, "scale": 3, "lookat": 9, "skew": 7}
)
"""Number of values of each element."""
MEMBERS: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "translate": ("X", "Y", "Z"),
        "scale": ("X", "Y", "Z"),
        "rotate": ("X", "Y", "Z", "ANGLE"),
        "lookat": ("PX", "PY", "PZ", "IX", "IY", "IZ", "UPX", "UPY", "UPZ"),
        "skew": ("ANGLE", "ROTX", "ROTY", "ROTZ", "AXISX", "AXISY", "AXISZ"),
    }
)
"""Names of the values by which channels select them."""
_SHEAR = 1e-5


def matrix(kind: str, values: Float64Array) -> Float64Array:
    """Return the (4, 4) matrix of a transform element; NaN if its values are invalid."""
    return _MATRICES[kind](values)


def up_axis(name: str) -> Float64Array:
    """Return the (4, 4) rotation from the axes of a document to Y up, as in glTF."""
    rows = {
        "X_UP": [[0, -1, 0, 0], [1, 0, 0, 0], [0, 0, 1, 0]],
        "Z_UP": [[1, 0, 0, 0], [0, 0, 1, 0], [0, -1, 0, 0]],
    }
    turn = np.eye(4)
    if name in rows:
        turn[:3] = rows[name]
    return turn


@dataclass(frozen=True, eq=False)
class Parts:
    """Decomposed matrices: (K, 3) translations, (K, 4) unit quaternions (x, y, z, w), and (K, 3) scales."""

    translations: Float64Array
    rotations: Float64Array
    scales: Float64Array

    def between(self, keys: Int64Array, shares: Float64Array) -> Float64Array:
        """Return (T, 4, 4) matrices at (T,) fractions between keys and the next ones, along the shorter rotation."""
        one, two, share = self.rotations[keys], self.rotations[keys + 1], shares[:, None]
        cosine = (one * two).sum(axis=1, keepdims=True)
        two, cosine = np.where(cosine < 0, -two, two), np.abs(cosine)
        angle = np.arccos(np.minimum(cosine, 1.0))
        sine = np.where(angle > 1e-6, np.sin(angle), 1.0)
        wide = np.sin((1 - share) * angle) / sine * one + np.sin(share * angle) / sine * two
        turn = np.where(angle > 1e-6, wide, (1 - share) * one + share * two)
        place, scale = ((1 - share) * rows[keys] + share * rows[keys + 1] for rows in (self.translations, self.scales))
        return np.asarray(compose(place, turn / np.linalg.norm(turn, axis=1, keepdims=True), scale))


def taken_apart(matrices: Float64Array) -> Parts | None:
    """Decompose (K, 4, 4) matrices; None if one is sheared, flat or projective."""
    linear = matrices[:, :3, :3]
    scales = np.linalg.norm(linear, axis=1)
    if not np.isfinite(matrices).all() or not (scales > 0).all():
        return None
    scales[:, 0] *= np.where(np.linalg.det(linear) < 0, -1.0, 1.0)
    rotations = quaternions(linear / scales[:, None, :])
    parts = Parts(matrices[:, :3, 3], rotations, scales)
    again = compose(parts.translations, parts.rotations, parts.scales)
    error = np.abs(again - matrices)[:, :, :3].max(axis=(1, 2))
    return parts if (error <= _SHEAR * np.abs(scales).max(axis=1)).all() else None


def quaternions(turns: Float64Array) -> Float64Array:
    """Return the (K, 4) unit quaternions (x, y, z, w) of (K, 3, 3) rotations."""
    # For any rotation, the quaternion is the dominant eigenvector of this symmetric matrix (Bar-Itzhack).
    symmetric = np.empty((len(turns), 4, 4))
    trace = np.trace(turns, axis1=1, axis2=2)
    symmetric[:, :3, :3] = turns + turns.transpose(0, 2, 1) - trace[:, None, None] * np.eye(3)
    for axis, (row, column) in enumerate(((2, 1), (0, 2), (1, 0))):
        symmetric[:, axis, 3] = symmetric[:, 3, axis] = turns[:, row, column] - turns[:, column, row]
    symmetric[:, 3, 3] = trace
    return np.asarray(np.linalg.eigh(symmetric)[1][:, :, -1])


def _matrix(values: Float64Array) -> Float64Array:
    return values.reshape(4, 4)


def _translate(values: Float64Array) -> Float64Array:
    found = np.eye(4)
    found[:3, 3] = values
    return found


def _scale(values: Float64Array) -> Float64Array:
    return np.diag([*values, 1.0])


def _rotate(values: Float64Array) -> Float64Array:
    found = np.eye(4)
    length = float(np.linalg.norm(values[:3]))
    if length > 0:
        x, y, z = values[:3] / length
        angle = np.deg2rad(values[3])
        sine, cosine = np.sin(angle), np.cos(angle)
        across = np.array([[0, -z, y], [z, 0, -x], [-y, x, 0]])
        along = np.outer([x, y, z], [x, y, z])
        found[:3, :3] = cosine * np.eye(3) + sine * across + (1 - cosine) * along
    return found


def _look_at(values: Float64Array) -> Float64Array:
    """Return the matrix that moves an object to the eye, where its −Z points at the interest."""
    eye, interest, up = values.reshape(3, 3)
    back = eye - interest
    with np.errstate(invalid="ignore", divide="ignore"):
        back = back / np.linalg.norm(back)
        right = np.cross(up, back)
        right = right / np.linalg.norm(right)
    found = np.eye(4)
    found[:3] = np.stack([right, np.cross(back, right), back, eye], axis=1)
    return found


def _skew(values: Float64Array) -> Float64Array:
    """Return the shear along the second axis that turns the first axis by an angle toward the second."""
    with np.errstate(invalid="ignore", divide="ignore"):
        turned, along = (axis / np.linalg.norm(axis) for axis in values[1:].reshape(2, 3))
        cosine = float(turned @ along)
        across = turned - cosine * along
        sine = float(np.linalg.norm(across))
        rest = np.arctan2(sine, cosine) - np.deg2rad(values[0])
        factor = 1 / np.tan(rest) - cosine / sine if 0 < rest < np.pi else np.nan
        found = np.eye(4)
        found[:3, :3] += factor * np.outer(along, across / sine)
    return found


_MATRICES: Mapping[str, Callable[[Float64Array], Float64Array]] = MappingProxyType(
    {
        "matrix": _matrix,
        "translate": _translate,
        "rotate": _rotate,
        "scale": _scale,
        "lookat": _look_at,
        "skew": _skew,
    }
)
