"""The sRGB transfer function (IEC 61966-2-1) for arrays of values in [0, 1]."""

from __future__ import annotations

import numpy as np

from helix4d.core.arrays import Float64Array, FloatArray


def srgb_to_linear(values: FloatArray) -> Float64Array:
    """Decode sRGB values of any shape."""
    return np.where(values <= 0.04045, values / 12.92, ((values + 0.055) / 1.055) ** 2.4)


def linear_to_srgb(values: FloatArray) -> Float64Array:
    """Encode linear values of any shape; they must not be negative."""
    return np.where(values <= 0.0031308, values * 12.92, 1.055 * values ** (1 / 2.4) - 0.055)
