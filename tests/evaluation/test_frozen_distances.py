"""Distances between two tracked clouds are the frozen ones, before and after alignment."""

from __future__ import annotations

import numpy as np
import pytest

from tests.data.frozen import load
from tests.data.recipes.evaluation import distances

FROZEN = load("distances")


@pytest.fixture(scope="module")
def measured() -> dict[str, np.ndarray]:
    return distances()


@pytest.mark.parametrize("name", ["chamfer", "motion"])
def test_distances_of_given_points(measured: dict[str, np.ndarray], name: str) -> None:
    np.testing.assert_allclose(measured[name], FROZEN[name], rtol=1e-5)


@pytest.mark.parametrize("name", ["cd_3d", "cd_4d", "cd_m"])
def test_distances_after_alignment(measured: dict[str, np.ndarray], name: str) -> None:
    """Descent multiplies rounding: 2 %, as for the official numbers."""
    np.testing.assert_allclose(measured[name], FROZEN[name], rtol=0.02)
