from __future__ import annotations

import numpy as np
import pytest

from helix4d.bench_builder.measures import coverage, drift, flicker, measure

GRAY = (128, 128, 128)


def _still() -> np.ndarray:
    still = np.full((64, 64, 3), GRAY, np.uint8)
    still[16:48, 16:48] = (228, 28, 128)
    return still


def _cut(still: np.ndarray) -> np.ndarray:
    """The object of the still as a frame of 32 pixels, cropped at (16, 16)."""
    frame = np.full((32, 32, 4), 255, np.uint8)
    frame[..., :3] = still[16:48, 16:48]
    return frame


def test_coverage_is_the_share_over_one_half() -> None:
    masks = np.zeros((3, 10, 10), np.uint8)
    masks[1, :5] = 128
    masks[2] = 127
    assert coverage(masks) == (0.0, 0.5, 0.0)


def test_a_missing_frame_flickers_and_uniform_growth_does_not() -> None:
    assert flicker(tuple(np.linspace(0.1, 0.4, 16))) == pytest.approx(0, abs=1e-6)
    assert flicker((0.2, 0.2, 0.0, 0.2, 0.2)) == pytest.approx((0.1 + 0.2 + 0.1) / 3 / 0.16)
    assert flicker((0.0,) * 5) == 0.0
    assert flicker((0.1, 0.9)) == 0.0


def test_a_first_frame_equal_to_the_still_has_no_drift() -> None:
    still = _still()
    assert drift(_cut(still), still, (16, 16, 32), GRAY) == 0.0


def test_drift_is_the_mean_difference_of_visible_pixels() -> None:
    still = _still()
    frame = _cut(still)
    frame[..., :3] += 10
    assert drift(frame, still, (16, 16, 32), GRAY) == pytest.approx(10 / 255, abs=1e-6)
    frame[...] = 0
    assert drift(frame, still, (16, 16, 32), GRAY) == pytest.approx(200 / 3 / 255, abs=1e-6), "matted away"


def test_a_square_beyond_the_frame_causes_no_drift() -> None:
    still = _still()
    frame = np.zeros((96, 96, 4), np.uint8)
    frame[16:80, 16:80, :3] = still
    frame[32:64, 32:64, 3] = 255
    measures = measure(np.stack([frame] * 4), still, (-16, -16, 96), GRAY)
    assert measures.to_json() == {"coverage": [round(1 / 9, 6)] * 4, "flicker": 0.0, "drift": 0.0}
