"""The Fréchet distance between two sets of features, each taken as a Gaussian (Heusel et al. 2017).

|μa − μb|² + tr(A) + tr(B) − 2 tr((A B)^½), with unbiased covariances. Since A = XᵀX for the centered features X,
divided by √(N − 1), the last trace is the sum of the singular values of Xa Xbᵀ. This avoids the square root of a
singular matrix, which is inaccurate for few items in many dimensions.
"""

from __future__ import annotations

import numpy as np

from helix4d.core import ConfigError


def frechet_distance(a: np.ndarray, b: np.ndarray) -> float:
    """Return the Fréchet distance between (N, D) and (M, D) features, computed in float64 and never negative.

    A single feature has no covariance, so the result for N = M = 1 is their squared distance, as in StyleGAN-V's code.

    Raises:
        ConfigError: if there are no features, or the dimensions differ.
    """
    if a.ndim != 2 or b.ndim != 2 or a.shape[1] != b.shape[1] or min(len(a), len(b)) < 1:
        raise ConfigError(f"features of shapes {a.shape} and {b.shape}: expected (N, D) and (M, D), N and M at least 1")
    a, b = a.astype(np.float64), b.astype(np.float64)
    centered_a = (a - a.mean(axis=0)) / np.sqrt(max(len(a) - 1, 1))
    centered_b = (b - b.mean(axis=0)) / np.sqrt(max(len(b) - 1, 1))
    shared = np.linalg.svd(_narrow(centered_a) @ _narrow(centered_b).T, compute_uv=False).sum()
    means = np.square(a.mean(axis=0) - b.mean(axis=0)).sum()
    return float(max(means + np.square(centered_a).sum() + np.square(centered_b).sum() - 2 * shared, 0.0))


def _narrow(centered: np.ndarray) -> np.ndarray:
    """Reduce to at most D rows with the same covariance."""
    return np.asarray(np.linalg.qr(centered, mode="r")) if len(centered) > centered.shape[1] else centered
