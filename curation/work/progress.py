"""Displays the progress of a run: finished assets, the stage of each active one, rate and time left."""

from __future__ import annotations

import logging
import time
from collections import Counter
from collections.abc import Mapping

from rich.console import Console, Group
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.text import Text

from helix4d.core.terminal import printable_line
from helix4d.curation.shards.ledger import Outcome

log = logging.getLogger("helix4d.curation")

_LOG_EVERY_S = 15.0
_SHOWN = 8


class Display:
    """A live display on a terminal, an occasional log line elsewhere. A context manager.

    Args:
        total: number of assets in the plan.
        done: number of these that ended in earlier runs.
        what: plural noun for what is counted.
    """

    def __init__(self, total: int, done: int, what: str = "assets") -> None:
        self._what = what
        self._total, self._done_before, self._done = total, done, done
        self._counts: Counter[str] = Counter()
        self._start = self._last_log = time.monotonic()
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
        level = logging.INFO if outcome.state == "failed" else logging.DEBUG
        reason = "" if outcome.reason is None else f": {outcome.message} [{outcome.reason}]"
        log.log(level, "%s %s%s", outcome.asset, outcome.state, reason)

    def show(self, stages: Mapping[str, str]) -> None:
        """Show what is being worked on now: asset -> stage."""
        if self._live:
            self._progress.update(self._bar, completed=self._done, description=self._line())
            lines = [
                Text(printable_line(f"  {asset}: {stage}"), style="dim")
                for asset, stage in sorted(stages.items())[:_SHOWN]
            ]
            self._live.update(Group(self._progress, *lines))
        elif time.monotonic() - self._last_log > _LOG_EVERY_S:
            self._last_log = time.monotonic()
            now = "; ".join(f"{asset}: {stage}" for asset, stage in sorted(stages.items())[:_SHOWN])
            log.info("%s | %s", self._line(), now)

    def _line(self) -> str:
        done_now = self._done - self._done_before
        elapsed = time.monotonic() - self._start
        counts = ", ".join(f"{count} {state}" for state, count in sorted(self._counts.items())) or "none finished yet"
        if not done_now:
            return f"{self._done}/{self._total} {self._what} ({counts})"
        left = elapsed / done_now * (self._total - self._done)
        return (
            f"{self._done}/{self._total} {self._what} ({counts}), {3600 * done_now / elapsed:.0f} {self._what}/h, "
            f"{_clock(left)} left"
        )


def _clock(seconds: float) -> str:
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
