"""What checks report: rows of the table, and the outcome of each check.

Contains plain values only and does not import torch, so the process that writes the results cannot fail with the code
under test.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from enum import StrEnum
from typing import Any, Self


class Verdict(StrEnum):
    """How a row ended. Only `WRONG` makes the exit status 1."""

    RIGHT = "right"
    WRONG = "wrong"
    MET = "met"
    MISSED = "missed"
    MEASURED = "measured"
    SKIPPED = "skipped"
    TIMED_OUT = "timed out"
    CRASHED = "crashed"


@dataclass(frozen=True)
class Row:
    """One line of the table.

    Attributes:
        figure: the measurement, with its unit.
        verdict: comparison with the target.
        target: what the figure should be; empty if there is none.
        share: fraction of the GPU's measured ceiling (copy bandwidth or matrix rate); None where neither applies.
        values: the numbers behind the figure, for the JSON file.
        details: lines that are printed below the table.
    """

    figure: str
    verdict: Verdict = Verdict.MEASURED
    target: str = ""
    share: float | None = None
    values: Mapping[str, float] = field(default_factory=dict)
    details: tuple[str, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """Return plain values; numbers that JSON cannot represent become text."""
        share = None if self.share is None or not math.isfinite(self.share) else self.share
        return {**asdict(self), "share": share, "values": {name: _finite(v) for name, v in self.values.items()}}

    @classmethod
    def from_json(cls, document: Mapping[str, Any]) -> Self:
        """Parse what `to_json` returned."""
        values = {name: float(value) for name, value in document["values"].items()}
        verdict, details = Verdict(document["verdict"]), tuple(document["details"])
        return cls(**{**document, "verdict": verdict, "values": values, "details": details})


@dataclass(frozen=True)
class Outcome:
    """How a check ended.

    Attributes:
        name: name of the check.
        seconds: wall-clock time of its process, imports included.
        rows: what it reported, ending with a row that says so if it was skipped, timed out or crashed.
        log: the last lines that its process printed, if it was killed or crashed.
    """

    name: str
    seconds: float
    rows: tuple[Row, ...]
    log: str = ""

    def has(self, verdict: Verdict) -> bool:
        """Return whether a row has this verdict."""
        return any(row.verdict is verdict for row in self.rows)

    def to_json(self) -> dict[str, Any]:
        """Return plain values."""
        rows = [row.to_json() for row in self.rows]
        return {"name": self.name, "seconds": round(self.seconds, 2), "rows": rows, "log": self.log}


@dataclass(frozen=True)
class Ceilings:
    """Measured rates of the GPU: bytes per second copied (read and written), bf16 operations per second."""

    copy: float | None = None
    matmul: float | None = None


def _finite(value: float) -> float | str:
    return value if math.isfinite(value) else str(value)
