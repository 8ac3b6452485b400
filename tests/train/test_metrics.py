from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from train.metrics import METRICS_FILE, Metrics, read_metrics

LINE: dict[str, Any] = {"loss": 1.0, "grad_norm": 1.0, "tokens_per_s": 10.0, "data_wait": 0.0, "mfu": None}


def test_lines_of_a_run_that_died_are_written_again(tmp_path: Path) -> None:
    before = Metrics(tmp_path, 0, tensorboard=False)
    for step in range(1, 6):
        before.write({"step": step, **LINE})
    with open(tmp_path / METRICS_FILE, "ab") as stream:
        stream.write(b'{"step": 6, "lo')  # cut short by a crash
    after = Metrics(tmp_path, 3, tensorboard=False)
    after.write({"step": 4, **LINE, "loss": 2.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(tmp_path)] == [(1, 1), (2, 1), (3, 1), (4, 2)]


def test_events_where_they_are_wanted(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    metrics = Metrics(tmp_path, 0, tensorboard=True)
    metrics.write({"step": 1, **LINE})
    assert list((tmp_path / "events").glob("events.out.*"))
