"""Events of a run: ticks and finished jobs, on Ray or in this process. Independent of Ray."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from helix4d.core import AssetError, FormatError, Helix4DError, NewerError, ReasonCode
from helix4d.core.messages import reproducible
from helix4d.curation.shards.ledger import Ledger, Outcome
from helix4d.curation.work.jobs import Job
from helix4d.curation.work.progress import Display

_LOG_CHARACTERS = 4000
_COLORS = re.compile(r"\x1b\[[0-9;]*m")
"""Escape codes with which Ray colors its messages."""


@dataclass(frozen=True)
class Tick:
    """Current activity, at most twice a second: job name -> text, such as `render 3/16`."""

    stages: Mapping[str, str]


@dataclass(frozen=True)
class Ended:
    """Jobs that have ended since the last event, at least one."""

    outcomes: tuple[Outcome, ...]


def follow(
    news: Iterable[Ended | Tick], ledger: Ledger, display: Display, on_tick: Callable[[], None] = lambda: None
) -> Iterator[Outcome]:
    """Follow a run: ticks are displayed, outcomes are written to the ledger, then displayed and yielded.

    Args:
        news: what `run_tasks` or `run_serially` yields.
        ledger: where outcomes are recorded.
        display: the progress display.
        on_tick: called at every tick, for checks that must not wait for the next outcome.
    """
    for item in news:
        if isinstance(item, Tick):
            display.show(item.stages)
            on_tick()
            continue
        ledger.append(*item.outcomes)
        for outcome in item.outcomes:
            display.advance(outcome)
            yield outcome


def outcome_of_exception(cause: BaseException, job: Job, text: str, stage: str) -> Outcome:
    """Return the outcome of a job that raised.

    Args:
        cause: the exception.
        job: the job.
        text: the exception with its traceback, of which the outcome keeps the end.
        stage: stage to record in the outcome.

    Raises:
        Helix4DError: if it concerns the whole run, not just a file.
    """
    message = reproducible(f"unexpected {type(cause).__name__} in the worker: {cause}")
    code = ReasonCode.CRASHED
    if isinstance(cause, AssetError):
        code, message = cause.code, str(cause)
    elif isinstance(cause, FormatError) and not isinstance(cause, NewerError):
        code, message = ReasonCode.CORRUPT_FILE, reproducible(str(cause))
    elif isinstance(cause, Helix4DError):
        raise cause
    elif isinstance(cause, MemoryError):
        code, message = ReasonCode.OUT_OF_MEMORY, "an allocation failed in the worker"
    return failed_outcome(job, code, message, text, stage)


def failed_outcome(job: Job, code: ReasonCode, message: str, text: str, stage: str) -> Outcome:
    """Return the outcome of a job that ended with a reason code; it keeps the end of `text` as its log."""
    plain = _COLORS.sub("", text)
    return Outcome(job.name, code.state, code, stage=stage, message=message, log=plain[-_LOG_CHARACTERS:])
