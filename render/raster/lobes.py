"""Directional albedo of GGX lobes with height-correlated Smith shadowing, tabulated (Karis, Real Shading in Unreal
Engine 4, 2013)."""

from __future__ import annotations

import functools

import numpy as np

LOBE_UNIT = 11
"""Texture unit, after those of the gathered light."""

SIDE = 32
"""Entries per axis; the first and the last are exactly 0 and 1 (of the cosine, nearly 0)."""

_SAMPLES = 512
_GRAZING = 1e-3


@functools.cache
def albedo_table() -> np.ndarray:
    """(SIDE, SIDE, 3) float32, rows of growing roughness, columns of growing cosine between normal and eye.

    The albedo of a lobe whose Fresnel reflection is F0 head-on is F0 · x + y; z is the cosine-weighted mean of x + y.
    """
    steps = np.linspace(0.0, 1.0, SIDE)
    alpha = np.maximum(steps**2, 1e-4)[:, None, None]
    cosine = np.maximum(steps, _GRAZING)[None, :, None]
    index = np.arange(_SAMPLES)
    u, turn = (index + 0.5) / _SAMPLES, 2.0 * np.pi * ((index * 0.6180339887498949) % 1.0)
    up = np.sqrt((1.0 - u) / (1.0 + (alpha**2 - 1.0) * u))  # half vectors drawn from the distribution
    across = np.sqrt(1.0 - up**2) * np.cos(turn)
    along = np.maximum(np.sqrt(1.0 - cosine**2) * across + cosine * up, 0.0)  # cosine between eye and half vector
    leaving = 2.0 * along * up - cosine
    share = 2.0 * leaving * along / up * (leaving > 0.0)
    share /= np.maximum(leaving, 0.0) * _smith(cosine, alpha) + cosine * _smith(np.maximum(leaving, 0.0), alpha)
    grazing = (1.0 - along) ** 5
    x, y = (share * (1.0 - grazing)).mean(axis=2), (share * grazing).mean(axis=2)
    mean = 2.0 * np.trapezoid((x + y) * steps, steps, axis=1)
    return np.stack([x, y, np.broadcast_to(mean[:, None], x.shape)], axis=2).astype(np.float32)


def _smith(cosine: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    return np.asarray(np.sqrt(cosine**2 * (1.0 - alpha**2) + alpha**2))
