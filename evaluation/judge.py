"""One item: its prediction and its reference are read, and every metric is asked for its number."""

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
    Need,
    NotAvailable,
    SetMetric,
    View,
    missing,
)
from helix4d.evaluation.results import ItemResult, Outcome, has_features, read_result, write_features, write_result

log = logging.getLogger("helix4d.evaluation")


@dataclass(frozen=True)
class Judge:
    """Everything that is the same for all items.

    Args:
        bench: what the items come from.
        method: whose predictions they are.
        predictions: folder with a folder for every item.
        output: where results go.
        metrics: which are asked.
        unavailable: why some of them cannot be computed here, by name.
        device: where tensors are to be.
        draw: makes pictures.
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
        """The item's result, from an earlier run where it still holds, and what was read for it if anything was.

        A result holds as long as the files of its prediction are the same; a failure is tried again. Metrics that it
        lacks, that waited for weights or that broke, are added to it.
        """
        key = bench_item.key
        folder = self.predictions / key
        print_now = fingerprint(folder, self.method)
        known = read_result(self.output, key)
        outcomes = dict(known.outcomes) if known is not None and known.prediction == print_now else {}
        todo = [metric for metric in self.metrics if not self._holds(key, metric, outcomes.get(metric.name))]
        if known is not None and known.state == "done" and known.prediction == print_now and not todo:
            return known, None
        try:
            item = self.read(bench_item)
        except FAULTS as error:
            if not _expected(error):
                log.warning("%s: cannot be read", key, exc_info=True)
            result = ItemResult(key, "failed", _told(error), print_now)
            write_result(self.output, result)
            return result, None
        for metric in todo:
            outcomes[metric.name] = self._ask(metric, item)
        result = ItemResult(key, "done", None, print_now, outcomes)
        write_result(self.output, result)
        return result, item

    def read(self, bench_item: BenchItem) -> Item:
        """An item with its prediction.

        Raises:
            PredictionError, AssetError: if the prediction is missing, incomplete or broken.
            FormatError: if the bench's own files are.
        """
        folder = self.predictions / bench_item.key
        prediction_files(folder, self.method)  # says what is missing before the reference is read
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
            tracked=Need.TRACKS in self.bench.offers,
            textured=self.method.textured,
            lost_textures=lost_textures(prediction),
            device=self.device,
            draw=self.draw,
        )

    def _holds(self, key: str, metric: Measure, outcome: Outcome | None) -> bool:
        if outcome is None or outcome.broken:
            return False
        if outcome.fetchable:
            return metric.name in self.unavailable
        return outcome.features is None or has_features(self.output, key, metric.name, outcome.features)

    def _ask(self, metric: Measure, item: Item) -> Outcome:
        if (lacking := missing(metric, item)) is not None:
            return Outcome(reason=lacking.reason)
        if metric.name in self.unavailable:
            return Outcome(reason=self.unavailable[metric.name], fetchable=True)
        try:
            if isinstance(metric, SetMetric):
                return self._features(metric, item)
            if not isinstance(metric, Metric):
                raise TypeError(f"{metric.name} is neither a Metric nor a SetMetric")
            answer = metric.evaluate(item)
        except FAULTS as error:
            log.warning("%s: %s: no number: %s", item.key, metric.name, error, exc_info=not _expected(error))
            return Outcome(reason=_told(error), broken=True)
        if isinstance(answer, NotAvailable):
            return Outcome(reason=answer.reason)
        if not math.isfinite(answer):
            return Outcome(reason=f"the metric gave {answer}")
        return Outcome(value=float(answer))

    def _features(self, metric: SetMetric, item: Item) -> Outcome:
        features = metric.features(item)
        if isinstance(features, NotAvailable):
            return Outcome(reason=features.reason)
        if not np.isfinite(features).all():
            return Outcome(reason="the metric gave features that are not finite")
        return Outcome(features=write_features(self.output, item.key, metric.name, features))


def _expected(error: BaseException) -> bool:
    return isinstance(error, Helix4DError)


def _told(error: BaseException) -> str:
    return str(error) if _expected(error) else f"{type(error).__name__}: {error}"
