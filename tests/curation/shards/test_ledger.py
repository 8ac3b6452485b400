from __future__ import annotations

import errno
import json
import os
from pathlib import Path

import pytest

from helix4d.core import AssetState, FormatError, NewerError, ReasonCode, StorageError
from helix4d.curation.filters.thresholds import MeasuredClip
from helix4d.curation.shards.ledger import LEDGER, Ledger, Outcome, count
from helix4d.curation.sources.listing import Exclusion

DONE = Outcome("a.glb", AssetState.DONE, keys=("k_0",), timings_s={"bake": 0.5}, warnings=("é",))
FAILED = Outcome("b.glb", AssetState.FAILED, ReasonCode.TIMEOUT, "render", "too long", 2, log="tail\n")


def test_outcomes_are_restored_and_the_last_one_counts(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    for outcome in (FAILED, DONE, Outcome("b.glb", AssetState.DONE)):
        ledger.append(outcome)
    again = Ledger(ledger.path).outcomes
    assert again == {"a.glb": DONE, "b.glb": Outcome("b.glb", AssetState.DONE)}


def test_a_line_cut_short_is_ignored_and_does_not_swallow_the_next(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(DONE)
    whole = path.read_bytes()
    path.write_bytes(whole + b'{"asset": "b.g')
    ledger = Ledger(path)
    assert ledger.outcomes == {"a.glb": DONE}
    ledger.append(FAILED)
    assert Ledger(path).outcomes == {"a.glb": DONE, "b.glb": FAILED}


def test_other_damage_is_an_error(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    path.write_text('{"asset": "a.glb"}\n')
    with pytest.raises(FormatError, match="line 1"):
        Ledger(path)


def test_newer_lines_are_rejected_and_lines_without_a_version_are_read(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(DONE)
    line = json.loads(path.read_text())
    assert line.pop("version") == LEDGER.version
    path.write_text(json.dumps(line) + "\n")
    assert Ledger(path).outcomes == {"a.glb": DONE}
    path.write_text(json.dumps({**line, "version": 99, "new": 0}) + "\n")
    with pytest.raises(NewerError, match="line 1: ledger entry version 99"):
        Ledger(path)


def test_counts_by_state_and_reason() -> None:
    assert count([DONE, FAILED]) == {"done": 1, "failed: timeout": 1}


def test_a_batch_has_one_line_per_outcome(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append()
    assert not ledger.path.exists()
    outcomes = [Outcome(f"{number}.glb", AssetState.DONE) for number in range(3)]
    ledger.append(*outcomes)
    assert ledger.path.read_bytes().count(b"\n") == 3
    assert Ledger(ledger.path).outcomes == {outcome.asset: outcome for outcome in outcomes}


def test_a_half_written_line_is_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(Outcome("a.glb", AssetState.DONE))
    plain, calls = os.fsync, []

    def fsync(descriptor: int) -> None:
        calls.append(descriptor)
        if len(calls) == 1:
            os.ftruncate(descriptor, os.fstat(descriptor).st_size - 20)
            raise OSError(errno.ENOSPC, "full")
        plain(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    Ledger(path, patience_s=10).append(Outcome("b.glb", AssetState.DONE), Outcome("c.glb", AssetState.DONE))
    assert list(Ledger(path).outcomes) == ["a.glb", "b.glb", "c.glb"]
    assert len(calls) == 2


def test_a_full_disk_is_reported_and_changes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")

    def fsync(descriptor: int) -> None:
        raise OSError(errno.ENOSPC, "full")

    monkeypatch.setattr(os, "fsync", fsync)
    with pytest.raises(StorageError, match="No space left on device"):
        ledger.append(Outcome("a.glb", AssetState.DONE))
    assert ledger.outcomes == {}


def test_a_crash_may_cut_a_line_anywhere(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    clip = MeasuredClip('k_{"0', "wälk \\", {"size": 1.0})
    Ledger(path).append(DONE)
    first = path.read_bytes()
    Ledger(path).append(Outcome("b {}.glb", AssetState.DONE, timings_s={"bake": 0.5}, clips=(clip,), log='"}]\\"'))
    second = path.read_bytes()[len(first) :]
    for kept in range(len(second) - 1):
        path.write_bytes(first + second[:kept])
        assert list(Ledger(path).outcomes) == ["a.glb"], second[:kept]


def test_zeros_left_by_a_crash_are_ignored(tmp_path: Path) -> None:
    path = tmp_path / "ledger.jsonl"
    Ledger(path).append(DONE)
    path.write_bytes(path.read_bytes() + bytes(100))
    ledger = Ledger(path)
    ledger.append(FAILED)
    assert list(Ledger(path).outcomes) == ["a.glb", "b.glb"]


def test_names_that_are_not_text_are_restored(tmp_path: Path) -> None:
    name = os.fsdecode(b"caf\xe9.glb")
    ledger = Ledger(tmp_path / "ledger.jsonl")
    ledger.append(Outcome(name, AssetState.DONE))
    ledger.path.read_bytes().decode()
    assert list(Ledger(ledger.path).outcomes) == [name]


def test_left_out_assets_are_recorded_once_per_reason(tmp_path: Path) -> None:
    ledger = Ledger(tmp_path / "ledger.jsonl")
    gone, other = (Exclusion(code, code) for code in (ReasonCode.DOWNLOAD_FAILED, ReasonCode.CHECKSUM_MISMATCH))
    for why, lines in ((gone, 1), (gone, 1), (other, 2), (other, 2)):  # asked for again, it came with other bytes
        ledger.append_left_out({"a.glb": why})
        assert ledger.path.read_bytes().count(b"\n") == lines
    assert Ledger(ledger.path).outcomes["a.glb"].reason is ReasonCode.CHECKSUM_MISMATCH
