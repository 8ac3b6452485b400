"""What is kept of an item: `items/KEY.json`, written whole or not at all, the same bytes whenever it is computed."""

from __future__ import annotations

import io
import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

import numpy as np

from helix4d.core import FormatError, Schema, sha256_file, write_bytes, write_json

log = logging.getLogger("helix4d.evaluation")

RESULT = Schema("result of an item", version=1, oldest=1, rewrite="evaluate it again into a new --output")
ITEMS = "items"


@dataclass(frozen=True)
class Outcome:
    """What a metric gave.

    Args:
        value: the number, or None.
        reason: why there is none.
        fetchable: whether it only waits for weights, and is asked again by the next run.
        broken: whether asking it failed, and is tried again by the next run.
        features: hash of the file with the features of a metric of sets.
    """

    value: float | None = None
    reason: str | None = None
    fetchable: bool = False
    features: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class ItemResult:
    """One item.

    Args:
        key: of the item.
        state: "failed" if there was nothing to judge.
        reason: why it failed.
        prediction: hash of the prediction's files; None where there were none.
        outcomes: by metric.
    """

    key: str
    state: Literal["done", "failed"]
    reason: str | None = None
    prediction: str | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def write_result(output: Path, result: ItemResult) -> None:
    """Atomically write `items/KEY.json`."""
    content = {
        "version": RESULT.version,
        "key": result.key,
        "state": result.state,
        "reason": result.reason,
        "prediction": result.prediction,
        "metrics": {name: _outcome_json(outcome) for name, outcome in result.outcomes.items()},
    }
    write_json(output / ITEMS / f"{result.key}.json", content)


def read_result(output: Path, key: str) -> ItemResult | None:
    """What an earlier run wrote, or None where there is nothing, or nothing that can be used.

    Raises:
        NewerError: if a newer program wrote it.
    """
    path = output / ITEMS / f"{key}.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s: evaluated again: damaged (%s)", path, error)
        return None
    RESULT.check(content, path)
    try:
        outcomes = {name: _outcome_of(value) for name, value in content["metrics"].items()}
        return ItemResult(content["key"], content["state"], content["reason"], content["prediction"], outcomes)
    except (KeyError, TypeError, AttributeError) as error:
        log.warning("%s: evaluated again: damaged (%r)", path, error)
        return None


def write_features(output: Path, key: str, metric: str, features: np.ndarray) -> str:
    """Write a metric's features of an item; returns the file's hash."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(features, np.float32), allow_pickle=False)
    path = _features_path(output, key, metric)
    write_bytes(path, stream.getvalue())
    return sha256_file(path)


def has_features(output: Path, key: str, metric: str, sha256: str) -> bool:
    """Whether the file is there and whole."""
    path = _features_path(output, key, metric)
    return path.is_file() and sha256_file(path) == sha256


def read_features(output: Path, key: str, metric: str) -> np.ndarray:
    """What `write_features` wrote.

    Raises:
        FormatError: if it is not there or damaged.
    """
    path = _features_path(output, key, metric)
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"{path}: not features ({error}): remove it and run again") from error


def _features_path(output: Path, key: str, metric: str) -> Path:
    return output / ITEMS / f"{key}.{metric}.npy"


def _outcome_json(outcome: Outcome) -> dict[str, Any]:
    return {name: value for name, value in vars(outcome).items() if value not in (None, False)}


def _outcome_of(values: Mapping[str, Any]) -> Outcome:
    return Outcome(
        values.get("value"),
        values.get("reason"),
        values.get("fetchable", False),
        values.get("features"),
        values.get("broken", False),
    )
