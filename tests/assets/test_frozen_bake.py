"""Every clip of every sample asset bakes to the frozen times, boxes, areas and centroids."""

from __future__ import annotations

import numpy as np
import pytest

from helix4d.assets.samples import SAMPLES
from tests.data.frozen import group, load
from tests.data.recipes.assets import baked_samples

FROZEN = load("bake")
TOLERANCE = 1e-5
"""Of the union's diagonal for places, relative for areas: float32 positions, ten times their rounding."""


@pytest.fixture(scope="module")
def baked() -> dict[str, np.ndarray]:
    return baked_samples()


def test_clips_are_the_frozen_ones(baked: dict[str, np.ndarray]) -> None:
    assert sorted(baked) == sorted(FROZEN)


@pytest.mark.parametrize("name", sorted(SAMPLES))
def test_frames(baked: dict[str, np.ndarray], name: str) -> None:
    clips = {key.split(".")[1] for key in FROZEN if key.startswith(f"{name}.")}
    assert clips
    for index in clips:
        found, frozen = group(baked, f"{name}.{index}"), group(FROZEN, f"{name}.{index}")
        boxes = frozen["boxes"]
        diagonal = np.linalg.norm(boxes[:, 1].max(axis=0) - boxes[:, 0].min(axis=0))
        np.testing.assert_array_equal(found["triangles"], frozen["triangles"])
        np.testing.assert_allclose(found["times"], frozen["times"], atol=1e-9)
        np.testing.assert_allclose(found["boxes"], boxes, atol=TOLERANCE * diagonal)
        np.testing.assert_allclose(found["centroids"], frozen["centroids"], atol=TOLERANCE * diagonal)
        np.testing.assert_allclose(found["areas"], frozen["areas"], rtol=TOLERANCE)
