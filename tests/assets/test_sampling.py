"""Windows of an animation: where they start, which are chosen, and what short animations give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from helix4d.assets.sampling import Sampling, moments_of


def _never(times: np.ndarray) -> float:
    raise AssertionError("nothing has to be measured")


def test_the_whole_animation_has_evenly_spaced_frames() -> None:
    (whole,) = moments_of(Sampling(16), 2.0, 32.0, _never)
    assert whole.window is None
    np.testing.assert_array_equal(whole.times, np.linspace(2.0, 32.0, 16))


def test_a_window_has_its_rate_and_the_one_that_moves_most_is_chosen() -> None:
    """30 s at 12 frames a second: 22 windows of 1.25 s start every 1.333 s; motion peaks at 17 s, in number 12."""
    motion = lambda times: float(np.exp(-((times - 17.0) ** 2)).sum())  # noqa: E731
    (chosen,) = moments_of(Sampling(16, 12.0), 0.0, 30.0, motion)
    assert chosen.window == 12
    np.testing.assert_allclose(chosen.times, 12 * 16 / 12 + np.arange(16) / 12, atol=1e-12)


def test_three_windows_share_no_frame_and_come_in_order_of_time() -> None:
    motion = {0: 5.0, 7: 9.0, 8: 8.0}
    step = 16 / 12
    found = moments_of(Sampling(16, 12.0, 3), 1.0, 31.0, lambda t: motion.get(round((t[0] - 1.0) / step), 0.0))
    assert [one.window for one in found] == [0, 7, 8]
    times = np.concatenate([one.times for one in found])
    assert len(np.unique(times.round(9))) == 48
    assert (np.diff(times) > 0.08).all()


def test_equal_windows_are_chosen_from_the_front_and_overlap_only_when_asked() -> None:
    found = moments_of(Sampling(16, 12.0, 3), 0.0, 30.0, lambda times: 1.0)
    assert [one.window for one in found] == [0, 1, 2]
    overlapping = moments_of(Sampling(16, 12.0, 3, stride=4), 0.0, 10.0, lambda times: 1.0)
    assert [one.times[0] for one in overlapping] == pytest.approx([0.0, 4 / 12, 8 / 12])


def test_a_short_animation_is_used_whole() -> None:
    (short,) = moments_of(Sampling(16, 12.0, 3), 0.5, 0.8, _never)
    assert short.window == 0
    np.testing.assert_array_equal(short.times, np.linspace(0.5, 0.8, 16))
    (exact,) = moments_of(Sampling(16, 12.0, 3), 0.0, 15 / 12, _never)
    np.testing.assert_allclose(exact.times, np.arange(16) / 12, atol=1e-12)
    assert exact.times[-1] <= 15 / 12


def test_fewer_windows_than_wanted_are_all_used() -> None:
    found = moments_of(Sampling(16, 12.0, 5), 0.0, 4.0, _never)
    assert [one.window for one in found] == [0, 1, 2]  # 1.25 s each, at 0, 1.33 and 2.67 s


def test_a_long_animation_is_measured_at_a_bounded_number_of_windows() -> None:
    asked = []
    (found,) = moments_of(Sampling(16, 12.0), 0.0, 3600.0, lambda times: asked.append(times[0]) or float(times[0]))
    assert len(asked) == 64
    assert found.window == 2699, "the last one that fits"
    assert found.times[-1] <= 3600.0


@given(
    st.integers(1, 32),
    st.floats(0.5, 60.0),
    st.integers(1, 6),
    st.one_of(st.none(), st.integers(1, 40)),
    st.floats(-5.0, 5.0),
    st.floats(0.0, 20.0),
)
def test_frames_stay_inside_the_animation(
    frames: int, fps: float, windows: int, stride: int | None, start: float, length: float
) -> None:
    found = moments_of(Sampling(frames, fps, windows, stride), start, start + length, lambda times: float(times[0]))
    assert 1 <= len(found) <= windows
    assert len({one.window for one in found}) == len(found)
    for one in found:
        assert len(one.times) == frames
        assert (np.diff(one.times) >= 0).all()
        assert one.times[0] >= start - 1e-9
        assert one.times[-1] <= start + length + 1e-9


@pytest.mark.parametrize("wrong", [{"frames": 0}, {"fps": 0.0}, {"fps": float("nan")}, {"windows": 0}, {"stride": 0}])
def test_impossible_settings_are_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="must be"):
        Sampling(**wrong)
