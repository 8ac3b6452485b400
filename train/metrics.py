"""Write a run's metrics to `metrics.jsonl`, one line every few steps, and optionally as TensorBoard events."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, insist, write_bytes
from helix4d.curation.places.folder import Place, folder_at

log = logging.getLogger("helix4d.train")

METRICS_FILE = "metrics.jsonl"


class Metrics:
    """Appends lines to a run's `metrics.jsonl`.

    Args:
        run: folder of the run.
        step: step from which the run resumes; lines of later steps, left by a killed run, are removed.
        tensorboard: whether to write TensorBoard events too.
        patience_s: seconds to wait for a disk that refuses a line.
    """

    def __init__(self, run: Path, step: int, tensorboard: bool, patience_s: float) -> None:
        self._path = run / METRICS_FILE
        self._patience_s = patience_s
        kept = b"".join(_line(values) for values in read_metrics(run) if values["step"] <= step)
        insist(lambda: write_bytes(self._path, kept), self._path, patience_s)
        self._bytes = len(kept)
        self._events: Any = _event_writer(run, step) if tensorboard else None

    def write(self, values: Mapping[str, Any]) -> None:
        """Append one line; numbers and lists of numbers become events."""
        insist(lambda: self._append(_line(values)), self._path, self._patience_s)
        log.info(
            "step %d  loss %.4f  grad norm %.3f  %.0f tokens/s  data wait %.0f%%",
            values["step"],
            values["loss"],
            values["grad_norm"],
            values["tokens_per_s"],
            100 * values["data_wait"],
        )
        if self._events is not None:
            for name, value in values.items():
                is_list = isinstance(value, list)
                scalars = {f"{name}/{i}": v for i, v in enumerate(value)} if is_list else {name: value}
                for tag, number in scalars.items():
                    if tag != "step" and isinstance(number, int | float):
                        self._events.add_scalar(tag, number, values["step"])
            self._events.flush()

    def _append(self, line: bytes) -> None:
        """Append a line, replacing a part of it that was written before the disk was full."""
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
