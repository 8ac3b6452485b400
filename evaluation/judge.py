"""Evaluate one item: read its prediction and reference, and compute every metric."""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from helix4d.assets import Clip
from helix4d.core import Helix4DError
from helix4d.evaluation.methods.adapters import fingerprint, lost_textures, prediction_files, read_prediction
from helix4d.evaluation.methods.benches import Bench, BenchItem
from helix4d.evaluation.methods.methods import Method, judged_frames
from helix4d.evaluation.metrics.metric import (
    FAULTS,
    Item,
    Measure,
    Metric,
    NotAvailable,
    SetMetric,
    View,
    missing,
)
from helix4d.evaluation.results import ItemResult, Outcome, has_features, read_result, write_features, write_result

log = logging.getLogger("helix4d.evaluation")


@dataclass(frozen=True)
class Judge:
    """Evaluates items; holds everything that is the same for all of them.

    Args:
        bench: benchmark of the items.
        method: method that made the predictions.
        predictions: folder with one folder per item.
        output: folder for the results.
        metrics: metrics to compute.
        unavailable: reasons why metrics cannot be computed, by name.
        device: device for tensors.
        draw: function that renders images of a clip.
    """

    bench: Bench
    method: Method
    predictions: Path
    output: Path
    metrics: Sequence[Measure]
    unavailable: Mapping[str, str]
    device: torch.device
    draw: Callable[[Clip, View], np.ndarray]

    def judge(self, bench_item: BenchItem) -> tuple[ItemResult, Item | None]:
        """Return the item's result, and the item itself if it had to be read.

        A result of an earlier run is reused if the prediction's files are unchanged and the item did not fail. Metrics
        that it lacks, that were waiting for weights or that raised an error are computed and added to it.
        """
        key = bench_item.key
        folder = self.predictions / key
        files_hash = fingerprint(folder, self.method)
        known = read_result(self.output, key)
        outcomes = dict(known.outcomes) if known is not None and known.prediction == files_hash else {}
        todo = [metric for metric in self.metrics if not self._is_current(key, metric, outcomes.get(metric.name))]
        if known is not None and known.state == "done" and known.prediction == files_hash and not todo:
            return known, None
        try:
            item = self.read(bench_item)
        except FAULTS as error:
            if not _expected(error):
                log.warning("%s: cannot read the item", key, exc_info=True)
            result = ItemResult(key, "failed", _message(error), files_hash)
            write_result(self.output, result)
            return result, None
        for metric in todo:
            outcomes[metric.name] = self._compute(metric, item)
        result = ItemResult(key, "done", None, files_hash, outcomes)
        write_result(self.output, result)
        return result, item

    def read(self, bench_item: BenchItem) -> Item:
        """Read an item and its prediction.

        Raises:
            PredictionError, AssetError: if the prediction is missing, incomplete or broken.
            FormatError: if files of the benchmark are missing or broken.
        """
        folder = self.predictions / bench_item.key
        prediction_files(folder, self.method)  # fail early, before the reference is read
        reference = bench_item.read()
        prediction = read_prediction(folder, self.method, reference.frames)
        judged = judged_frames(self.method, reference.frames)
        truth = reference.truth if isinstance(reference.truth, NotAvailable) else reference.truth[judged]
        video = reference.video if isinstance(reference.video, NotAvailable) else reference.video[judged]
        return Item(
            key=bench_item.key,
            prediction=prediction,
            video=video,
            truth=truth.to(self.device) if isinstance(truth, Tensor) else truth,
            tracked=reference.tracked,
            textured=self.method.textured,
            lost_textures=lost_textures(prediction),
            device=self.device,
            draw=self.draw,
        )

    def _is_current(self, key: str, metric: Measure, outcome: Outcome | None) -> bool:
        if outcome is None or outcome.broken:
            return False
        if outcome.fetchable:
            return metric.name in self.unavailable
        return outcome.features is None or has_features(self.output, key, metric.name, outcome.features)

    def _compute(self, metric: Measure, item: Item) -> Outcome:
        if (unmet := missing(metric, item)) is not None:
            return Outcome(reason=unmet.reason)
        if metric.name in self.unavailable:
            return Outcome(reason=self.unavailable[metric.name], fetchable=True)
        try:
            if isinstance(metric, SetMetric):
                return self._features(metric, item)
            if not isinstance(metric, Metric):
                raise TypeError(f"{metric.name} is neither a Metric nor a SetMetric")
            answer = metric.evaluate(item)
        except FAULTS as error:
            log.warning("%s: %s failed: %s", item.key, metric.name, error, exc_info=not _expected(error))
            return Outcome(reason=_message(error), broken=True)
        if isinstance(answer, NotAvailable):
            return Outcome(reason=answer.reason)
        if not math.isfinite(answer):
            return Outcome(reason=f"the metric returned {answer}")
        return Outcome(value=float(answer))

    def _features(self, metric: SetMetric, item: Item) -> Outcome:
        features = metric.features(item)
        if isinstance(features, NotAvailable):
            return Outcome(reason=features.reason)
        if not np.isfinite(features).all():
            return Outcome(reason="the metric returned non-finite features")
        return Outcome(features=write_features(self.output, item.key, metric.name, features))


def _expected(error: BaseException) -> bool:
    return isinstance(error, Helix4DError)


def _message(error: BaseException) -> str:
    return str(error) if _expected(error) else f"{type(error).__name__}: {error}"
