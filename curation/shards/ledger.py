"""The ledger: one line of JSON for every time an asset reached an end. The last line for an asset counts.

A line says its version; those of version 0 do not, and are otherwise the same; those before 2 have no `clips`.
Only the driver writes it, a line at a time, each on disk before the next asset is taken off the list; a line cut short
by a crash is ignored, its asset is worked on again.
"""

from __future__ import annotations

import io
import json
import os
import re
from collections import Counter
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from helix4d.core import AssetState, FormatError, NewerError, ReasonCode, Schema, insist
from helix4d.curation.filters.thresholds import MeasuredClip
from helix4d.curation.places.folder import Folder
from helix4d.curation.shards.layout import LEDGER_FILE, LEDGER_PIECES
from helix4d.curation.sources.listing import Exclusion

LEDGER = Schema("ledger entry", version=2, oldest=0, rewrite="use a new --output")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """The end of one asset.

    Attributes:
        asset: its name in the source.
        state: done, filtered or failed.
        reason: why it is not done; None when done.
        stage: where it ended (bake, voxelize, render, ...), "" when done.
        message: one sentence for people.
        attempts: how often it was tried.
        keys: keys of the samples that came of it.
        timings_s: seconds per stage of the last attempt.
        peak_bytes: the largest resident size of the process that worked on it.
        warnings: what was ignored or repaired on the way.
        clips: what was measured of its clips, those that were dropped included.
        log: end of the worker's log, for failures.
    """

    asset: str
    state: AssetState
    reason: ReasonCode | None = None
    stage: str = ""
    message: str = ""
    attempts: int = 1
    keys: tuple[str, ...] = ()
    timings_s: dict[str, float] = field(default_factory=dict)
    peak_bytes: int = 0
    warnings: tuple[str, ...] = ()
    log: str = ""
    clips: tuple[MeasuredClip, ...] = ()

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        """The inverse of `to_json`."""
        return cls(
            **{
                **values,
                "state": AssetState(values["state"]),
                "reason": None if values["reason"] is None else ReasonCode(values["reason"]),
                "keys": tuple(values["keys"]),
                "warnings": tuple(values["warnings"]),
                "clips": tuple(MeasuredClip.from_json(clip) for clip in values.get("clips", ())),
            }
        )


class Ledger:
    """Append-only record of outcomes at `path`.

    Args:
        path: `ledger.jsonl`; need not exist.
        patience_s: how long to wait for a disk that refuses a line.
    """

    def __init__(self, path: Path, patience_s: float = 0.0) -> None:
        self.path = path
        self._patience_s = patience_s
        self.outcomes = {outcome.asset: outcome for outcome in _read(path)}

    def append(self, *outcomes: Outcome) -> None:
        """Record outcomes; they are on disk when this returns. Several at once cost one wait for the disk.

        Raises:
            StorageError: if the disk refuses them.
        """
        if not outcomes:
            return
        lines = []
        for outcome in outcomes:
            content = {"version": LEDGER.version, **outcome.to_json()}
            text = json.dumps(content, ensure_ascii=False, sort_keys=True)
            lines.append(text.encode(errors="backslashreplace") + b"\n")  # as `canonical_json`
        insist(lambda: self._write(b"".join(lines)), self.path, self._patience_s)
        self.outcomes.update((outcome.asset, outcome) for outcome in outcomes)

    def append_left_out(self, left_out: Mapping[str, Exclusion]) -> None:
        """Record what a plan leaves out (name -> why), where that is not what the ledger says.

        Raises:
            StorageError: if the disk refuses it.
        """
        self.append(
            *(
                Outcome(name, why.reason.state, why.reason, stage="plan", message=why.message)
                for name, why in left_out.items()
                if name not in self.outcomes or self.outcomes[name].reason is not why.reason
            )
        )

    def _write(self, lines: bytes) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with open(self.path, "ab+") as stream:
            # A line that a crash cut short must not swallow this one.
            if stream.tell() and not _ends_with_newline(self.path):
                stream.write(b"\n")
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())


def count(outcomes: Iterable[Outcome]) -> Counter[str]:
    """How many ended in each `state` or `state: reason`."""
    return Counter(o.state.value if o.reason is None else f"{o.state.value}: {o.reason.value}" for o in outcomes)


def _ends_with_newline(path: Path) -> bool:
    with open(path, "rb") as stream:
        stream.seek(-1, os.SEEK_END)
        return stream.read(1) == b"\n"


def _read(path: Path) -> list[Outcome]:
    if not path.exists():
        return []
    with open(path, "rb") as stream:
        return _parse(stream, str(path))


def read_outcomes(output: Folder) -> dict[str, Outcome]:
    """The last outcome of every asset in the ledger of an output.

    Raises:
        FormatError: if it is damaged.
        NewerError: if it is newer than this program.
        StoreError: if a far one cannot be had.
    """
    return {outcome.asset: outcome for outcome in _parse(io.BytesIO(ledger_bytes(output)), output.address(LEDGER_FILE))}


def ledger_bytes(output: Folder) -> bytes:
    """The whole ledger of an output, its pieces at the end; b"" if it has none.

    Raises:
        StoreError: if a far one cannot be had.
    """
    # A run that ends now puts the whole before it removes the pieces: read last, the whole makes up for lost ones.
    pieces = [_read_if_there(output, name) for name in ledger_files(output.names(LEDGER_PIECES))]
    return b"".join([_read_if_there(output, LEDGER_FILE), *pieces])


def ledger_files(names: Iterable[str]) -> list[str]:
    """Those of an output's files that make up its ledger, in order."""
    found = set(names)
    pieces = sorted(name for name in found if name.startswith(f"{LEDGER_PIECES}/") and name.endswith(".jsonl"))
    return [LEDGER_FILE, *pieces] if LEDGER_FILE in found else pieces


def _read_if_there(output: Folder, name: str) -> bytes:
    try:
        return output.read(name)
    except FileNotFoundError:
        return b""


def _parse(lines: Iterable[bytes], where: str) -> list[Outcome]:
    parsed = (parse_line(line, f"{where}, line {number}") for number, line in enumerate(lines, 1))
    return [outcome for outcome in parsed if outcome is not None]


def parse_line(line: bytes, where: str) -> Outcome | None:
    """The outcome in a line of the ledger, or None if it is empty or a crash cut it short.

    Raises:
        NewerError: if it is newer than this program.
        FormatError: if it is damaged otherwise.
    """
    line = line.rstrip(b"\n\0")  # a file system that crashed may have kept a file's new length without its bytes
    if not line:
        return None
    try:
        content = json.loads(line)
        LEDGER.check(content, where)
        return Outcome.from_json({name: value for name, value in content.items() if name != "version"})
    except NewerError:
        raise
    except (ValueError, KeyError, TypeError, FormatError) as error:
        if _was_cut_short(line):
            return None
        raise FormatError(f"{where}: not a ledger entry ({error})") from error


def _was_cut_short(line: bytes) -> bool:
    """Whether its object is left open. It may end in a brace for all that, which closed an object within."""
    outside = _STRING.sub(b"", line)
    return line.startswith(b"{") and outside.count(b"{") > outside.count(b"}")
