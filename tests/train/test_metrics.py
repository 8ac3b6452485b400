from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from helix4d.train.metrics import METRICS_FILE, Metrics, read_metrics

LINE: dict[str, Any] = {"loss": 1.0, "grad_norm": 1.0, "tokens_per_s": 10.0, "data_wait": 0.0, "mfu": None}


def test_lines_of_a_killed_run_are_rewritten(tmp_path: Path) -> None:
    before = Metrics(tmp_path, 0, tensorboard=False, patience_s=1)
    for step in range(1, 6):
        before.write({"step": step, **LINE})
    with open(tmp_path / METRICS_FILE, "ab") as stream:
        stream.write(b'{"step": 6, "lo')  # truncated by a crash
    after = Metrics(tmp_path, 3, tensorboard=False, patience_s=1)
    after.write({"step": 4, **LINE, "loss": 2.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 1), (2, 1), (3, 1), (4, 2)]


def test_numbers_and_lists_of_numbers_become_events(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Writer:
        def __init__(self) -> None:
            self.events: dict[str, tuple[float, int]] = {}

        def add_scalar(self, tag: str, value: float, step: int) -> None:
            self.events[tag] = (value, step)

        def flush(self) -> None:
            pass

    writer = Writer()
    monkeypatch.setattr("helix4d.train.metrics._event_writer", lambda _run, _step: writer)
    Metrics(tmp_path, 0, tensorboard=True, patience_s=1).write({"step": 7, **LINE, "loss_by_time": [0.5, None, 2.0]})
    expected = {"loss": 1.0, "grad_norm": 1.0, "tokens_per_s": 10.0, "data_wait": 0.0}
    expected |= {"loss_by_time/0": 0.5, "loss_by_time/2": 2.0}
    assert writer.events == {tag: (value, 7) for tag, value in expected.items()}


def test_events_are_written_if_enabled(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    metrics = Metrics(tmp_path, 0, tensorboard=True, patience_s=1)
    metrics.write({"step": 1, **LINE})
    assert list((tmp_path / "events").glob("events.out.*"))
