"""Frames in other processes: overlap, bounded memory, and failures that cost one frame."""

from __future__ import annotations

import time
from collections.abc import Iterator

import pytest

from helix4d.core.errors import SetupError
from helix4d.model.sampling.frame_pool import FramePool
from tests.model.pool_work import missing, work


@pytest.mark.parametrize("pause_s", [0.0, 0.6])
def test_a_failed_frame_costs_that_frame(pause_s: float) -> None:
    """An exception, and a process that dies, between frames that succeed; at once, or while the next frame is made."""

    def frames() -> Iterator[tuple[int, tuple[int]]]:
        for number in range(6):
            time.sleep(pause_s if number == 4 else 0)
            yield number, (number,)

    found = dict(FramePool(work, workers=2).results(frames()))
    assert sorted(found) == list(range(6))
    assert {number: found[number] for number in (0, 1, 4, 5)} == {0: 0, 1: 1, 4: 16, 5: 25}
    assert isinstance(found[2], ValueError)
    assert "its process crashed or ran out of memory" in str(found[3])


def test_frames_are_made_while_others_are_worked_on_and_only_a_few_wait() -> None:
    made: list[int] = []
    ended: list[int] = []

    def frames() -> Iterator[tuple[int, tuple[int]]]:
        for number in range(10, 18):
            made.append(number)
            yield number, (number,)

    most = 0
    for number, square in FramePool(work, workers=2).results(frames()):
        ended.append(number)
        assert square == number * number
        most = max(most, len(made) - len(ended))
    assert sorted(ended) == made == list(range(10, 18))
    assert 2 <= most <= 3, "frames in flight besides the one that has just ended"


def test_a_missing_package_is_reported_at_once() -> None:
    with pytest.raises(SetupError, match="cannot import xatlas"):
        list(FramePool(missing, workers=1).results((n, (n,)) for n in range(100)))
