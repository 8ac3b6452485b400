"""Displays the progress of a run: finished assets, the stage of each active one, rate and time left."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Callable, Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from helix4d.core.terminal import printable_line
from helix4d.curation.shards.ledger import Outcome
from helix4d.curation.work.forecast import Forecast

log = logging.getLogger("helix4d.curation")

_LOG_EVERY_S = 15.0
_SHOWN = 8


class Display:
    """A live display on a terminal, an occasional log line elsewhere. A context manager.

    Args:
        total: number of assets in the plan.
        done: number of these that ended in earlier runs.
        what: plural noun for what is counted.
        stage: stage whose steps measure the progress of an active asset, for the remaining time; empty for none.
        clock: monotonic clock in seconds.
    """

    def __init__(
        self,
        total: int,
        done: int,
        what: str = "assets",
        stage: str = "",
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._what, self._clock = what, clock
        self._total, self._done = total, done
        self._counts: Counter[str] = Counter()
        self._last_log = clock()
        self._forecast = Forecast(stage, self._last_log)
        self._progress = Progress(
            TextColumn(what),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            TextColumn("{task.description}"),
        )
        self._bar = self._progress.add_task("", total=total, completed=done)
        console = Console(stderr=True)
        self._live = Live(self._progress, console=console, refresh_per_second=2) if console.is_terminal else None

    def __enter__(self) -> Display:
        if self._live:
            self._live.start()
        log.info("%d of %d %s left to do", self._total - self._done, self._total, self._what)
        return self

    def __exit__(self, *_: object) -> None:
        if self._live:
            self._live.stop()
        log.info("%s", self._line())

    def advance(self, outcome: Outcome) -> None:
        """Count an asset that has ended."""
        self._done += 1
        self._counts[outcome.state] += 1
        self._forecast.end(outcome.asset)
        level = logging.INFO if outcome.state == "failed" else logging.DEBUG
        reason = "" if outcome.reason is None else f": {outcome.message} [{outcome.reason}]"
        log.log(level, "%s %s%s", outcome.asset, outcome.state, reason)

    def show(self, stages: Mapping[str, str]) -> None:
        """Show what is being worked on now: asset -> stage."""
        self._forecast.update(stages, self._clock())
        if self._live:
            self._progress.update(self._bar, completed=self._done, description=self._line())
            lines = [
                Text(printable_line(f"  {asset}: {stage}"), style="dim")
                for asset, stage in sorted(stages.items())[:_SHOWN]
            ]
            self._live.update(Group(self._progress, *lines))
        elif self._clock() - self._last_log > _LOG_EVERY_S:
            self._last_log = self._clock()
            now = "; ".join(f"{asset}: {stage}" for asset, stage in sorted(stages.items())[:_SHOWN])
            log.info("%s | %s", self._line(), now)

    def _line(self) -> str:
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self._counts.items())) or "none finished yet"
        line = f"{self._done}/{self._total} {self._what} ({counts})"
        now = self._clock()
        rate, left = self._forecast.per_second(now), self._forecast.left_s(self._total - self._done, now)
        if rate is None or left is None:
            return line if self._done == self._total else f"{line}, time left not known yet"
        return f"{line}, {3600 * rate:.0f} {self._what}/h, {_hours(left)} left"


def _hours(seconds: float) -> str:
    hours, rest = divmod(int(seconds), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"


class Steps:
    """A progress bar for work that is only counted. A context manager.

    Args:
        what: plural noun for what is counted.
        total: number of steps.
    """

    def __init__(self, what: str, total: int) -> None:
        self._what, self._total, self._done = what, total, 0
        self._last_log = time.monotonic()
        console = Console(stderr=True)
        self._bar = Progress(
            TextColumn(what), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn(), console=console, transient=True
        )
        self._task = self._bar.add_task("", total=total)
        self._is_live = console.is_terminal

    def __enter__(self) -> Steps:
        if self._is_live:
            self._bar.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self._is_live:
            self._bar.stop()

    def advance(self) -> None:
        """Count one more step."""
        self._done += 1
        if self._is_live:
            self._bar.advance(self._task)
        elif time.monotonic() - self._last_log > _LOG_EVERY_S:
            self._last_log = time.monotonic()
            log.info("%d of %d %s", self._done, self._total, self._what)
