"""Write a run's metrics to `metrics.jsonl`, and optionally to TensorBoard and Weights & Biases."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, insist, sha256_json, write_bytes
from helix4d.curation.places.folder import Place, folder_at
from helix4d.train.config import TrainConfig

log = logging.getLogger("helix4d.train")

METRICS_FILE = "metrics.jsonl"


class Metrics:
    """Appends lines to a run's `metrics.jsonl`.

    Args:
        config: settings of the run.
        step: step from which the run resumes; lines of later steps, left by a killed run, are removed.

    Raises:
        ConfigError: if TensorBoard or Weights & Biases is requested, but its package is not installed.
    """

    def __init__(self, config: TrainConfig, step: int) -> None:
        self._path = config.folder / METRICS_FILE
        self._patience_s = config.run.patience_s
        kept = b"".join(_line(values) for values in read_metrics(config.folder) if values["step"] <= step)
        insist(lambda: write_bytes(self._path, kept), self._path, self._patience_s)
        self._bytes = len(kept)
        self._events: Any = _event_writer(config.folder, step) if config.run.tensorboard else None
        self._tracker: Any = None if config.run.wandb is None else _tracker(config, config.run.wandb)

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line; numbers and lists of numbers become events."""
        insist(lambda: self._append(_line(values)), self._path, self._patience_s)
        log.info("%s", _summary(values))
        if self._events is not None:
            for tag, number in _scalars(values).items():
                self._events.add_scalar(tag, number, values["step"])
            self._events.flush()
        if self._tracker is not None:
            self._tracker.log(_scalars(values), step=values["step"])

    def _append(self, line: bytes) -> None:
        """Append a line, overwriting any part of it that an earlier attempt wrote before the disk was full."""
        with open(self._path, "r+b") as stream:
            stream.truncate(self._bytes)
            stream.seek(self._bytes)
            stream.write(line)
        self._bytes += len(line)


def read_metrics(run: Place) -> list[dict[str, Any]]:
    """Read the lines of a run's `metrics.jsonl`, ignoring a last line truncated by a crash.

    Args:
        run: folder or URL of the run.
    """
    try:
        lines = folder_at(run).read(METRICS_FILE).split(b"\n")[:-1]
    except FileNotFoundError:
        return []
    return [json.loads(line) for line in lines if line]


def _summary(values: Mapping[str, Any]) -> str:
    """Format a line of the log."""
    validation = values.get("validation_loss")
    parts = [
        f"step {values['step']}",
        f"loss {values['loss']:.4f}",
        "" if validation is None else f"validation loss {validation:.4f}",
        f"grad norm {values['grad_norm']:.3f}",
        f"{values['tokens_per_s']:.0f} tokens/s",
        "" if values["mfu"] is None else f"MFU {values['mfu']:.1%}",
        f"busy {values['busy_share']:.0%}",
        f"data wait {values['data_wait']:.0%}",
    ]
    return "  ".join(part for part in parts if part)


def _scalars(values: Mapping[str, Any]) -> dict[str, float]:
    """Return the numbers of a line except the step, and those in its lists as `NAME/INDEX`."""
    flat: dict[str, Any] = {}
    for name, value in values.items():
        flat |= {f"{name}/{i}": v for i, v in enumerate(value)} if isinstance(value, list) else {name: value}
    return {tag: number for tag, number in flat.items() if tag != "step" and isinstance(number, int | float)}


def _line(values: Mapping[str, Any]) -> bytes:
    return json.dumps(values, sort_keys=True, allow_nan=False).encode() + b"\n"


def _event_writer(run: Path, step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ConfigError(
            "run.tensorboard requires the package tensorboard: pip install tensorboard, or set it to false"
        ) from error
    return SummaryWriter(str(run / "events"), purge_step=step + 1)


def _tracker(config: TrainConfig, project: str) -> Any:
    try:
        import wandb
    except ImportError as error:
        raise ConfigError("run.wandb requires the package wandb: pip install wandb, or remove the setting") from error
    # The id is the same after a restart. Weights & Biases ignores repeated steps.
    identity = sha256_json(str(config.place))[:16]
    folder = str(config.folder)
    return wandb.init(
        project=project, name=config.name, id=identity, resume="allow", config=config.to_json(), dir=folder
    )
