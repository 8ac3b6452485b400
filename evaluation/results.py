"""Results of items: `items/KEY.json`, written atomically and reproducible byte for byte."""

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
    """Outcome of a metric for one item.

    Args:
        value: value of the metric, or None.
        reason: reason why there is no value.
        fetchable: whether only weights are missing, so that the next run tries again.
        features: hash of the file with the features, for a `SetMetric`.
        broken: whether the metric raised an error, so that the next run tries again.
    """

    value: float | None = None
    reason: str | None = None
    fetchable: bool = False
    features: str | None = None
    broken: bool = False


@dataclass(frozen=True)
class ItemResult:
    """Result of one item.

    Args:
        key: key of the item.
        state: "failed" if the item could not be evaluated.
        reason: reason for the failure.
        prediction: hash of the prediction's files, or None if there are none.
        outcomes: outcomes by metric name.
    """

    key: str
    state: Literal["done", "failed"]
    reason: str | None = None
    prediction: str | None = None
    outcomes: Mapping[str, Outcome] = field(default_factory=dict)


def write_result(output: Path, result: ItemResult) -> None:
    """Write `items/KEY.json` atomically."""
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
    """Read the result of an earlier run; None if it is missing or damaged.

    Raises:
        NewerError: if it was written by a newer version.
    """
    path = output / ITEMS / f"{key}.json"
    try:
        content = json.loads(path.read_bytes())
    except FileNotFoundError:
        return None
    except ValueError as error:
        log.warning("%s: damaged, evaluating the item again (%s)", path, error)
        return None
    RESULT.check(content, path)
    try:
        outcomes = {name: _outcome_of(value) for name, value in content["metrics"].items()}
        return ItemResult(content["key"], content["state"], content["reason"], content["prediction"], outcomes)
    except (KeyError, TypeError, AttributeError) as error:
        log.warning("%s: damaged, evaluating the item again (%r)", path, error)
        return None


def write_features(output: Path, key: str, metric: str, features: np.ndarray) -> str:
    """Write a metric's features of an item and return the hash of the file."""
    stream = io.BytesIO()
    np.save(stream, np.ascontiguousarray(features, np.float32), allow_pickle=False)
    path = _features_path(output, key, metric)
    write_bytes(path, stream.getvalue())
    return sha256_file(path)


def has_features(output: Path, key: str, metric: str, sha256: str) -> bool:
    """Return whether the file of features exists and has the expected hash."""
    path = _features_path(output, key, metric)
    return path.is_file() and sha256_file(path) == sha256


def read_features(output: Path, key: str, metric: str) -> np.ndarray:
    """Read features written by `write_features`.

    Raises:
        FormatError: if the file is missing or damaged.
    """
    path = _features_path(output, key, metric)
    try:
        return np.asarray(np.load(path, allow_pickle=False))
    except (OSError, ValueError, EOFError) as error:
        raise FormatError(f"{path}: cannot read features ({error}): remove the file and rerun") from error


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
