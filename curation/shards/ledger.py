"""The ledger: one line of JSON per outcome of an asset. The last line of an asset counts.

Each line has a version, except in version 0; lines before version 2 have no `clips`. Only the driver appends lines, and
each is on disk before the run proceeds. A line that a crash cut short is ignored, and its asset is processed again.
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

from helix4d.core import AssetState, ConfigError, FormatError, NewerError, ReasonCode, Schema, insist
from helix4d.core.documents import parse_document
from helix4d.core.typed import build
from helix4d.curation.filters.thresholds import MeasuredClip
from helix4d.curation.places.folder import Folder
from helix4d.curation.shards.layout import LEDGER_FILE, LEDGER_PIECES
from helix4d.curation.sources.listing import Exclusion

LEDGER = Schema("ledger entry", version=2, oldest=0, rewrite="use a new --output")
_STRING = re.compile(rb'"(?:[^"\\]|\\.)*"?', re.DOTALL)


@dataclass(frozen=True)
class Outcome:
    """How one asset ended.

    Attributes:
        asset: name in the source.
        state: done, filtered or failed.
        reason: why the asset is not done; None if it is.
        stage: stage in which it ended (bake, voxelize, render, ...); "" if done.
        message: explanation, one sentence.
        attempts: number of attempts.
        keys: keys of its samples.
        timings_s: stage -> seconds, for the last attempt.
        peak_bytes: largest resident memory of the worker process.
        warnings: features that were ignored or repaired.
        clips: measures of its clips, dropped ones included.
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
        """Return the values as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Outcome:
        """Invert `to_json`.

        Raises:
            ConfigError: if a value is missing, unknown or of another type.
        """
        return build(cls, values, "outcome")


class Ledger:
    """Append-only record of outcomes at `path`.

    Args:
        path: path of `ledger.jsonl`, which need not exist.
        patience_s: seconds to wait for a disk that refuses a line.
    """

    def __init__(self, path: Path, patience_s: float = 0.0) -> None:
        self.path = path
        self._patience_s = patience_s
        self.outcomes = {outcome.asset: outcome for outcome in _read(path)}

    def append(self, *outcomes: Outcome) -> None:
        """Record outcomes. They are on disk when this returns; several at once share one sync.

        Raises:
            StorageError: if the disk refuses the write.
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
        """Record the assets that a plan leaves out (name -> why), unless the ledger has them already.

        Raises:
            StorageError: if the disk refuses the write.
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
            # After a line that a crash cut short, start a new one.
            if stream.tell() and not _ends_with_newline(self.path):
                stream.write(b"\n")
            stream.write(lines)
            stream.flush()
            os.fsync(stream.fileno())


def count(outcomes: Iterable[Outcome]) -> Counter[str]:
    """Count the outcomes by `state` or `state: reason`."""
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
    """Read the last outcome of every asset from the ledger of an output.

    Raises:
        FormatError: if the ledger is damaged.
        NewerError: if it was written by a newer version.
        StoreError: if a URL cannot be read.
    """
    return {outcome.asset: outcome for outcome in _parse(io.BytesIO(ledger_bytes(output)), output.address(LEDGER_FILE))}


def ledger_bytes(output: Folder) -> bytes:
    """Read the ledger of an output, followed by its pieces; b"" if there is none.

    Raises:
        StoreError: if a URL cannot be read.
    """
    # A finishing run uploads the whole ledger before it removes the pieces. Reading the pieces first loses no line.
    pieces = [_read_if_there(output, name) for name in ledger_files(output.names(LEDGER_PIECES))]
    return b"".join([_read_if_there(output, LEDGER_FILE), *pieces])


def ledger_files(names: Iterable[str]) -> list[str]:
    """Select the files that make up an output's ledger, in order."""
    available = set(names)
    pieces = sorted(name for name in available if name.startswith(f"{LEDGER_PIECES}/") and name.endswith(".jsonl"))
    return [LEDGER_FILE, *pieces] if LEDGER_FILE in available else pieces


def _read_if_there(output: Folder, name: str) -> bytes:
    try:
        return output.read(name)
    except FileNotFoundError:
        return b""


def _parse(lines: Iterable[bytes], where: str) -> list[Outcome]:
    parsed = (parse_line(line, f"{where}, line {number}") for number, line in enumerate(lines, 1))
    return [outcome for outcome in parsed if outcome is not None]


def parse_line(line: bytes, where: str) -> Outcome | None:
    """Parse a line of the ledger. None if the line is empty or was cut short by a crash.

    Raises:
        NewerError: if it was written by a newer version.
        FormatError: if it is damaged in another way.
    """
    line = line.rstrip(b"\n\0")  # after a crash, a file system may keep a file's new length without its content
    if not line:
        return None
    try:
        content = parse_document(line, LEDGER, where)
        return Outcome.from_json({name: value for name, value in content.items() if name != "version"})
    except NewerError:
        raise
    except (ConfigError, FormatError) as error:
        if _was_cut_short(line):
            return None
        raise FormatError(f"{where}: not a ledger entry ({error})") from error


def _was_cut_short(line: bytes) -> bool:
    """Return whether the object is not closed. It may still end in a brace, that of a nested object."""
    outside = _STRING.sub(b"", line)
    return line.startswith(b"{") and outside.count(b"{") > outside.count(b"}")
