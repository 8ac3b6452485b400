from __future__ import annotations

import numpy as np
import pytest
import scipy.linalg

from helix4d.core import ConfigError
from helix4d.evaluation.learned.frechet import frechet_distance

RANDOM = np.random.default_rng(0)


def by_roots(a: np.ndarray, b: np.ndarray) -> float:
    """The formula as published."""
    cov_a, cov_b = np.cov(a, rowvar=False), np.cov(b, rowvar=False)
    root = scipy.linalg.sqrtm(cov_a @ cov_b)
    return float(np.square(a.mean(0) - b.mean(0)).sum() + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root).real)


@pytest.mark.parametrize(("count_a", "count_b"), [(50, 50), (200, 30), (30, 200)])
def test_the_distance_is_the_formula(count_a: int, count_b: int) -> None:
    a = RANDOM.standard_normal((count_a, 8)) @ RANDOM.standard_normal((8, 8)) + 3
    b = RANDOM.standard_normal((count_b, 8)) @ RANDOM.standard_normal((8, 8))
    assert np.isclose(frechet_distance(a, b), by_roots(a, b), rtol=1e-9)


def whitened(count: int, dimensions: int) -> np.ndarray:
    """Samples whose mean is 0 and whose unbiased covariance is the identity, exactly."""
    x = RANDOM.standard_normal((count, dimensions))
    x -= x.mean(axis=0)
    return np.linalg.qr(x)[0] * np.sqrt(count - 1)


def test_known_gaussians_give_the_closed_form() -> None:
    """Diagonal covariances: the sum of (μ − ν)² + (σ − τ)²."""
    sigma, tau = np.array([1.0, 2.0, 0.5]), np.array([3.0, 2.0, 0.1])
    mean = np.array([1.0, -2.0, 0.0])
    expected = np.square(mean).sum() + np.square(sigma - tau).sum()
    assert np.isclose(frechet_distance(whitened(40, 3) * sigma + mean, whitened(70, 3) * tau), expected, rtol=1e-12)


def test_a_set_has_distance_zero_to_itself() -> None:
    few = RANDOM.standard_normal((20, 400)) * 30  # fewer than dimensions: the covariance is singular
    assert frechet_distance(few, few) < 1e-9 * np.square(few).sum() / 20
    assert frechet_distance(few, few[::-1]) < 1e-9 * np.square(few).sum() / 20
    assert frechet_distance(few, few + 1) == pytest.approx(400, rel=1e-9)


def test_the_distance_is_symmetric() -> None:
    a, b = RANDOM.standard_normal((10, 30)), RANDOM.standard_normal((15, 30)) * 2
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-12)


def test_single_features_have_the_squared_distance_of_their_values() -> None:
    assert frechet_distance(np.float32([[1, 2, 4]]), np.float32([[1, 0, 1]])) == 13


def test_too_few_features_are_refused() -> None:
    with pytest.raises(ConfigError, match="at least 1"):
        frechet_distance(np.zeros((0, 4)), np.zeros((5, 4)))
    with pytest.raises(ConfigError, match="expected"):
        frechet_distance(np.zeros((5, 3)), np.zeros((5, 4)))
