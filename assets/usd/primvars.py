"""Reads primvars, and expands them, normals and other interpolated values to the corners of triangles."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from pxr import Usd, UsdGeom

from helix4d.assets.polygons import Triangles
from helix4d.core.arrays import Float64Array

_PER_POINT = (UsdGeom.Tokens.vertex, UsdGeom.Tokens.varying)


def spread(values: Float64Array, interpolation: str, triangles: Triangles) -> Float64Array | None:
    """Return the (F, 3, C) values of corners from (N, C) values and their USD interpolation; None if N is too small."""
    if interpolation == UsdGeom.Tokens.constant:
        index = np.zeros_like(triangles.points)
    elif interpolation == UsdGeom.Tokens.uniform:
        index = np.repeat(triangles.polygons[:, None], 3, axis=1)
    elif interpolation in _PER_POINT:
        index = triangles.points
    else:
        index = triangles.corners
    if index.max(initial=0) >= len(values):
        return None
    return np.asarray(values[index])


def find(prim: Usd.Prim, name: str) -> UsdGeom.Primvar | None:
    """Return a primvar of a prim, or a constant one inherited from an ancestor; None if there is no value."""
    primvar = UsdGeom.PrimvarsAPI(prim).FindPrimvarWithInheritance(name)
    return primvar if primvar and primvar.HasAuthoredValue() else None


def varies(primvar: UsdGeom.Primvar | None) -> bool:
    """Return whether a primvar may change over time."""
    return primvar is not None and bool(primvar.ValueMightBeTimeVarying())


def values(primvar: UsdGeom.Primvar, time: float, width: int) -> Float64Array | None:
    """Return the (N, width) values of a primvar with its indices applied; None if it has values of another type."""
    found = primvar.ComputeFlattened(time)
    if found is None:
        return None
    try:
        array: NDArray[np.float64] = np.array(found, np.float64)
    except (TypeError, ValueError):
        return None
    if array.size and array.size % width == 0 and array.shape[-1:] in ((width,), (len(array),)):
        return array.reshape(-1, width)
    return None
