"""Estimates the remaining time of a run, also before its first asset has finished."""

from __future__ import annotations

import re
from collections.abc import Mapping

_LEAST_S, _LEAST_WORK = 5.0, 0.05
"""Minimum time in seconds and work in assets for an estimate."""
_LEAST_ENDED = 10
"""Minimum number of finished assets if none was rendered: a broken file ends at once and is not representative."""


class Forecast:
    """Measures the work per second in assets, and estimates the remaining time from it.

    An active asset counts as the share of its images that are rendered: rendering is nine tenths of the work. The
    clock starts with the first image, so one-time costs (Ray, Blender, compiling kernels) are not multiplied by the
    number of assets.

    Args:
        stage: stage whose steps measure the progress of an active asset; empty to count only finished assets.
        now: seconds at the start of the run.
    """

    def __init__(self, stage: str, now: float) -> None:
        self._steps = re.compile(rf"{re.escape(stage)} (\d+)/(\d+)") if stage else None
        self._shares: dict[str, float] = {}
        self._ended = 0
        self._start, self._at_start = now, 0.0
        self._measured = False

    def update(self, stages: Mapping[str, str], now: float) -> None:
        """Update the stages of the active assets: name -> stage, such as `render 3/16`."""
        shares = {}
        for name, text in stages.items():
            found = self._steps.match(text) if self._steps else None
            share = int(found[1]) / int(found[2]) if found else 0.0
            shares[name] = max(share, self._shares.get(name, 0.0))  # the next clip of an asset starts from 0
        self._shares = shares
        if not self._measured and any(shares.values()):
            self._start, self._at_start, self._measured = now, self._done(), True

    def end(self, name: str) -> None:
        """Count an asset as finished."""
        self._shares.pop(name, None)
        self._ended += 1

    def per_second(self, now: float) -> float | None:
        """Return assets per second; None until enough work is done for an estimate."""
        seconds, done = now - self._start, self._done() - self._at_start
        is_known = self._measured or self._ended >= (_LEAST_ENDED if self._steps else 1)
        if seconds < _LEAST_S or done < _LEAST_WORK or not is_known:
            return None
        return done / seconds

    def left_s(self, todo: int, now: float) -> float | None:
        """Return the remaining seconds for `todo` unfinished assets; None until enough work is done for an estimate."""
        rate = self.per_second(now)
        return None if rate is None else max(0.0, todo - sum(self._shares.values())) / rate

    def _done(self) -> float:
        return self._ended + sum(self._shares.values())
