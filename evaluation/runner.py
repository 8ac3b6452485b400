"""`helix4d evaluate`: evaluate a method's files on a bench and write results per item, a table, and pages.

Resumable: all state is in the output folder, and rerunning the command after a crash produces the same table.
"""

from __future__ import annotations

import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from functools import partial
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import torch

from helix4d.assets import Clip
from helix4d.core import ConfigError, FormatError, Schema, differences, write_json
from helix4d.core.locks import locked
from helix4d.core.options import Option
from helix4d.evaluation.geometry.alignment import EXACT, PRUNED
from helix4d.evaluation.geometry.protocol import Protocol
from helix4d.evaluation.judge import Judge
from helix4d.evaluation.methods.benches import Bench, BenchItem, BenchName, open_bench
from helix4d.evaluation.methods.methods import Method, find_method
from helix4d.evaluation.metrics.metric import Measure, Need, View
from helix4d.evaluation.metrics.registry import choose, metrics
from helix4d.evaluation.results import ItemResult
from helix4d.evaluation.tables.pages import write_index, write_page
from helix4d.evaluation.tables.paper_tables import published_notes
from helix4d.evaluation.tables.pictures import draw
from helix4d.evaluation.tables.table import Table, build_row, column, measured_rows, published, write_table
from helix4d.evaluation.workers import work
from helix4d.model.device import choose_device
from helix4d.render import check_engine

log = logging.getLogger("helix4d.evaluation")

PLAN = Schema("plan of an evaluation", version=1, oldest=1, rewrite="use a new --output")
PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class EvaluateRun:
    """Evaluate a method's predictions on a benchmark.

    Writes items/KEY.json for every item, table.csv, table.json and table.md, which also lists published numbers, and
    pages/index.html. Resumable: rerun the command to continue where it stopped and to retry failed items.

    Example: helix4d evaluate --bench actionbench --predictions out --output results --method helix4d
    """

    bench: BenchName
    """Benchmark to evaluate on."""
    predictions: Path
    """Folder with one folder per item, named by its key."""
    output: Path
    """Output folder for the results of this method on this bench."""
    method: str = "helix4d"
    """Method: helix4d, actionmesh, motion-3-to-4, mesh4d, ss4d, shapegen4d, or any other name with --glob."""
    data: Annotated[Path | None, Option(metavar="DIR", default="(default: download ActionBench from the hub)")] = None
    """Folder of the bench. Required except for ActionBench."""
    limit: Annotated[int | None, Option(metavar="N", default="(default: all)")] = None
    """Evaluate only the first N items, in order of key. A later run with a higher limit continues from there."""
    device: str = "auto"
    """cuda, cpu, or auto (cuda if available)."""
    weights: Annotated[Path | None, Option(metavar="DIR", default="(optional)")] = None
    """Folder with the published weights of the learned metrics. Without it they are n/a; the table lists download
    commands."""
    exact: Annotated[bool, Option(default="(default)", only_on=True)] = False
    """Refine all 24 starts of the alignment, as ActionBench does."""
    pruned: Annotated[bool, Option(default="(optional)", only_on=True)] = False
    """Refine only the four best starts of the alignment, for machines without a GPU."""
    points: int = 100_000
    """Points sampled on each frame. Fewer are faster, but differ from ActionBench's protocol."""
    alignment_points: int = 10_000
    """Points of each cloud used for the alignment. Fewer are faster, but differ from ActionBench's protocol."""
    metrics: Annotated[
        tuple[str, ...],
        Option(default="(default: the distances if the bench has ground-truth geometry, else all others)"),
    ] = ()
    """Names of the metrics to compute."""
    glob: Annotated[str | None, Option(metavar="PATTERN", default="(default: that of the method)")] = None
    """Pattern of the prediction's files in an item's folder."""
    axes: Annotated[str | None, Option(metavar="AXES", default="(default: those of the method)")] = None
    """Right, away and up as axes of the files: x,-z,y if Y is up (glTF), x,y,z if Z is up."""
    textured: Annotated[bool | None, Option(default="(default: that of the method)")] = None
    """Whether the method generates textures."""
    frames: Annotated[
        int | None, Option(metavar="N", default="(default: that of the method: 6 for mesh4d, else all)")
    ] = None
    """Number of uniformly spaced frames to evaluate."""
    beside: Annotated[tuple[Path, ...], Option(default="(optional)")] = ()
    """Output folders of other methods on the same items, to include as rows of the table."""
    pages: bool = True
    """Write a page for every item, with the prediction rendered by Blender."""
    offline: bool = False
    """Read only the local hub cache."""
    workers: Annotated[
        int | None, Option(metavar="N", default="(default: one per CPU for distances without a GPU, else 1)")
    ] = None
    """Number of items to evaluate at the same time, each in one thread."""

    def __post_init__(self) -> None:
        if self.exact and self.pruned:
            raise ConfigError("--exact and --pruned are mutually exclusive")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}: must be at least 1")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}: must be at least 1")
        if min(self.points, self.alignment_points) < 1:
            raise ConfigError(
                f"points is {self.points} and alignment_points {self.alignment_points}: both must be at least 1"
            )


Progress = Callable[[int, int, str], None]


def run_evaluation(
    config: EvaluateRun,
    progress: Progress | None = None,
    draw_clip: Callable[[Clip, View], np.ndarray] = draw,
    known: Sequence[Measure] | None = None,
) -> Table:
    """Evaluate every item and write the table.

    Args:
        config: settings of the run.
        progress: function called with the number of completed items, the total number and the key.
        draw_clip: function that renders images of a clip.
        known: metrics to choose from; by default those of the registry.

    Raises:
        ConfigError: if bench, method, metrics or output are invalid or incompatible.
    """
    if not config.predictions.is_dir():
        raise ConfigError(f"{config.predictions}: no such folder: --predictions must be a folder with one per item")
    if config.pages and draw_clip is draw:
        _check_blender()
    bench = open_bench(config.bench, config.data, config.offline)
    method = find_method(config.method, config.glob, config.axes, config.textured, config.frames)
    protocol = Protocol(
        points=config.points, alignment_points=config.alignment_points, alignment=PRUNED if config.pruned else EXACT
    )
    selected = _metrics(config.metrics, bench, metrics(protocol, config.weights) if known is None else known)
    unavailable = {metric.name: reason for metric in selected if (reason := metric.available()) is not None}
    for name, reason in unavailable.items():
        log.warning("%s: n/a: %s", name, reason)
    device = choose_device(config.device)
    items = bench.items[: config.limit]
    judge = Judge(bench, method, config.predictions, config.output, selected, unavailable, device, draw_clip)
    title = f"{bench.label}, {method.label}"
    step = partial(_evaluate, judge, title if config.pages else None)
    done: dict[str, ItemResult] = {}
    with locked(config.output):
        _agree(config.output, _plan(bench, method, protocol, device), selected)
        for result in work(step, items, _workers(config.workers, len(items), device, selected)):
            if result.state == "failed":
                log.warning("%s: failed: %s", result.key, result.reason)
            done[result.key] = result
            if progress is not None:
                progress(len(done), len(items), result.key)
        results = [done[item.key] for item in items]
        if config.pages:
            write_index(config.output, title, results, selected)
        table = _table(config, bench, method, protocol, device, selected, results)
        write_table(config.output, table)
    return table


def _check_blender() -> None:
    try:
        check_engine("cycles")
    except ConfigError as error:
        raise ConfigError(f"{error}. Or evaluate without pages: --no-pages") from error


def _evaluate(judge: Judge, title: str | None, bench_item: BenchItem) -> ItemResult:
    """Evaluate an item and, if there is a title, write its page."""
    result, item = judge.judge(bench_item)
    if title is not None:
        write_page(judge.output, title, result, judge.metrics, lambda: judge.read(bench_item) if item is None else item)
    return result


def _workers(requested: int | None, items: int, device: torch.device, metrics: Sequence[Measure]) -> int:
    """Choose the number of workers; by default metrics that load weights run in one, to limit memory."""
    light = device.type == "cpu" and all(metric.checkpoint is None for metric in metrics)
    return min(requested or ((os.cpu_count() or 1) if light else 1), items)


def _metrics(names: Sequence[str], bench: Bench, known: Sequence[Measure]) -> tuple[Measure, ...]:
    """Return the named metrics; by default those on ground-truth geometry if the bench has it, else the others."""
    if names:
        return choose(names, known)
    offered = [metric for metric in known if metric.needs <= bench.offers | {Need.TEXTURE}]
    chosen = tuple(m for m in offered if (Need.TRUTH in m.needs) == (Need.TRUTH in bench.offers))
    if not chosen:
        raise ConfigError(
            f"{bench.label}: no metric is defined for its data ({', '.join(sorted(bench.offers))}): pass --metrics"
        )
    return chosen


def _plan(bench: Bench, method: Method, protocol: Protocol, device: torch.device) -> dict[str, Any]:
    """Return everything that the numbers depend on, except the predictions' files and the metrics."""
    return {
        "bench": bench.name,
        "items_sha256": bench.items_sha256(),
        "method": asdict(method),
        "protocol": asdict(protocol),
        "device": device.type,
    }


def _agree(output: Path, plan: dict[str, Any], selected: Sequence[Measure]) -> None:
    """Check that the settings equal those of the first run into `output`, and record added metrics."""
    path = output / PLAN_FILE
    columns = {metric.name: column(metric) for metric in selected}
    stored: dict[str, Any] = {}
    if path.exists():
        try:
            stored = json.loads(path.read_bytes())
        except ValueError as error:
            raise FormatError(f"{path}: damaged ({error}): use a new --output") from error
        PLAN.check(stored, path)
        now = json.loads(json.dumps({**plan, **columns}))
        then = {**stored["settings"], **stored["metrics"]}
        shared = now.keys() & then.keys()
        if changed := differences({name: then[name] for name in shared}, {name: now[name] for name in shared}):
            raise ConfigError(
                f"{output}: was started with different settings ({'; '.join(changed)}): use a new --output"
            )
        columns = {**stored["metrics"], **columns}
    write_json(path, {"version": PLAN.version, "settings": plan, "metrics": columns})


def _table(
    config: EvaluateRun,
    bench: Bench,
    method: Method,
    protocol: Protocol,
    device: torch.device,
    selected: Sequence[Measure],
    results: Sequence[ItemResult],
) -> Table:
    rows = [build_row(bench, method, selected, results, config.output)]
    table = Table(
        bench=bench.name,
        label=bench.label,
        items=len(results),
        items_sha256=bench.items_sha256(len(results)),
        columns=[column(metric) for metric in selected],
        rows=rows,
        notes=_notes(bench, method, protocol, device, selected, len(results)),
        failures={result.key: result.reason or "" for result in results if result.state == "failed"},
        protocol=asdict(protocol) if any(Need.TRUTH in metric.needs for metric in selected) else None,
    )
    others = [row for output in config.beside for row in measured_rows(output, table)]
    return replace(table, rows=[*rows, *others, *published(bench, selected)])


def _notes(
    bench: Bench,
    method: Method,
    protocol: Protocol,
    device: torch.device,
    selected: Sequence[Measure],
    judged: int,
) -> list[str]:
    notes = [
        *bench.notes,
        *([f"only the first {judged} of {len(bench.items)} items"] if judged < len(bench.items) else []),
        f"{method.label}: files {method.glob} ({method.layout}), axes {method.axes}, "
        f"{'textured' if method.textured else 'without textures'}; {method.source}",
        f"frames: {'all' if method.frames is None else f'{method.frames}, uniformly spaced'}; if there are more files "
        "than frames, the first in natural order are used",
        f"device: {device.type}",
    ]
    if any(metric.name.startswith("fvd") for metric in selected):
        notes += published_notes(bench.name)
    if any(Need.TRUTH in metric.needs for metric in selected):
        alignment = protocol.alignment
        refined = alignment.refined
        starts = "all 24 starts" if refined is None else f"the best {refined} of 24 starts (our approximation)"
        notes.append(
            f"alignment: {starts}, {alignment.steps} Adam steps with learning rate {alignment.learning_rate}, "
            f"{protocol.alignment_points:,} points; distances: {protocol.queries:,} queries among {protocol.points:,} "
            f"points per frame; seed {protocol.seed} + frame"
        )
        if replace(protocol, alignment=EXACT) != Protocol():
            notes.append("the number of points differs from ActionBench's protocol: results are approximate")
    return notes
