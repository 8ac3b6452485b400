from __future__ import annotations

import logging
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from helix4d.core import ConfigError
from helix4d.train.config import TrainConfig
from helix4d.train.metrics import METRICS_FILE, Metrics, read_metrics
from tests.train import world

LINE: dict[str, Any] = {
    "loss": 1.0,
    "grad_norm": 1.0,
    "tokens_per_s": 10.0,
    "data_wait": 0.0,
    "mfu": None,
    "busy_share": 1.0,
}


def settings(output: Path, **run: Any) -> TrainConfig:
    values = world.train_values("geometry", *3 * [output], output)
    return world.build(TrainConfig, {**values, "run": {**values["run"], **run}}, "test")


def test_lines_of_a_killed_run_are_rewritten(tmp_path: Path) -> None:
    before = Metrics(settings(tmp_path), 0)
    for step in range(1, 6):
        before.write({"step": step, **LINE})
    run = tmp_path / "geometry"
    with open(run / METRICS_FILE, "ab") as stream:
        stream.write(b'{"step": 6, "lo')  # truncated by a crash
    after = Metrics(settings(tmp_path), 3)
    after.write({"step": 4, **LINE, "loss": 2.0})
    assert [(line["step"], line["loss"]) for line in read_metrics(run)] == [(1, 1), (2, 1), (3, 1), (4, 2)]


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
    Metrics(settings(tmp_path, tensorboard=True), 0).write({"step": 7, **LINE, "loss_by_time": [0.5, None, 2.0]})
    expected = {name: value for name, value in LINE.items() if value is not None}
    expected |= {"loss_by_time/0": 0.5, "loss_by_time/2": 2.0}
    assert writer.events == {tag: (value, 7) for tag, value in expected.items()}


def test_events_are_written_if_enabled(tmp_path: Path) -> None:
    pytest.importorskip("tensorboard")
    metrics = Metrics(settings(tmp_path, tensorboard=True), 0)
    metrics.write({"step": 1, **LINE})
    assert list((tmp_path / "geometry/events").glob("events.out.*"))


def test_lines_are_logged_to_weights_and_biases_if_enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A restarted run continues the same Weights & Biases run."""
    logged: list[Any] = []

    def init(**values: Any) -> Any:
        logged.append((values["project"], values["name"], values["id"], values["resume"]))
        return SimpleNamespace(log=lambda numbers, step: logged.append((numbers, step)))

    monkeypatch.setitem(sys.modules, "wandb", None)
    with pytest.raises(ConfigError, match="requires the package wandb"):
        Metrics(settings(tmp_path, wandb="helix"), 0)
    monkeypatch.setitem(sys.modules, "wandb", SimpleNamespace(init=init))
    Metrics(settings(tmp_path, wandb="helix"), 0).write({"step": 7, **LINE, "loss_by_time": [0.5, None]})
    Metrics(settings(tmp_path, wandb="helix"), 7)
    assert logged[0] == logged[2]
    assert logged[0][0::3] == ("helix", "allow")
    numbers = {name: value for name, value in LINE.items() if value is not None}
    assert logged[1] == ({**numbers, "loss_by_time/0": 0.5}, 7)


def test_the_log_has_a_line_per_step(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO)
    metrics = Metrics(settings(tmp_path), 0)
    metrics.write({"step": 3, **LINE, "mfu": 0.412, "busy_share": 0.91, "data_wait": 0.02, "validation_loss": 0.5})
    expected = (
        "step 3  loss 1.0000  validation loss 0.5000  grad norm 1.000  10 tokens/s  MFU 41.2%  busy 91%  data wait 2%"
    )
    assert expected in caplog.text
