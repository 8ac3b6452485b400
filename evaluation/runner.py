"""`helix4d evaluate`: a bench and a method's files become results an item, a table, and pages.

Everything it knows is in the output folder: it can be killed at any moment and started again, and the table comes out
the same.
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
import tyro

from helix4d.assets import Clip
from helix4d.core import ConfigError, FormatError, Schema, differences, write_json
from helix4d.core.locks import locked
from helix4d.evaluation.geometry.alignment import EXACT, PRUNED
from helix4d.evaluation.geometry.protocol import Protocol
from helix4d.evaluation.judge import Judge
from helix4d.evaluation.methods.benches import Bench, BenchItem, BenchName, open_bench
from helix4d.evaluation.methods.methods import Method, find_method
from helix4d.evaluation.metrics.metric import Measure, Need, View
from helix4d.evaluation.metrics.registry import choose, metrics
from helix4d.evaluation.results import ItemResult
from helix4d.evaluation.tables.pages import write_index, write_page
from helix4d.evaluation.tables.pictures import draw
from helix4d.evaluation.tables.table import Table, build_row, column, measured_rows, published, write_table
from helix4d.evaluation.workers import work
from helix4d.model.device import choose_device

log = logging.getLogger("helix4d.evaluation")

PLAN = Schema("plan of an evaluation", version=1, oldest=1, rewrite="use a new --output")
PLAN_FILE = "plan.json"


@dataclass(frozen=True, kw_only=True)
class EvaluateRun:
    """Judge a method's predictions on a bench.

    OUTPUT gets items/KEY.json for every item, table.csv, table.json and table.md with the published numbers beside,
    and pages/index.html. Run it again to go on where it stopped; what failed is tried again.

    On ActionBench: helix4d evaluate --bench actionbench --predictions out --output results --method helix4d
    """

    bench: BenchName
    """What is judged on."""
    predictions: Path
    """Folder with a folder for every item, named by its key."""
    output: Path
    """Folder for the results of this method on this bench."""
    method: str = "helix4d"
    """Whose files they are: helix4d, actionmesh, motion-3-to-4, mesh4d, ss4d, shapegen4d, or any name with --glob."""
    data: Path | None = None
    """The bench's folder. Default: ActionBench is fetched from the hub."""
    limit: int | None = None
    """Only the first N items, by key. A later run with more goes on from there."""
    device: str = "auto"
    """cuda, cpu, or auto: cuda where there is one."""
    weights: Path | None = None
    """Folder of the learned metrics' published weights; without them n/a, with the commands that fetch them."""
    exact: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Follow all 24 starts of the alignment, as ActionBench does; the default."""
    pruned: Annotated[bool, tyro.conf.FlagCreatePairsOff] = False
    """Follow the four best starts only: for machines without a GPU."""
    points: int = 100_000
    """Sampled on each frame. Fewer make a quick look, and not ActionBench's numbers."""
    alignment_points: int = 10_000
    """Of each cloud, for the alignment; likewise."""
    metrics: tuple[str, ...] = ()
    """Names of the metrics. Default: distances where the bench has a true surface, else all others."""
    glob: str | None = None
    """The prediction's files in an item's folder. Default: the method's."""
    axes: str | None = None
    """Right, away and up as axes of the files: x,-z,y where Y is up (glTF), x,y,z where Z is. Default: the method's."""
    textured: bool | None = None
    """Whether the method makes textures. Default: the method's."""
    frames: int | None = None
    """How many uniformly spaced moments are judged. Default: the method's; all but for Mesh4D."""
    beside: tuple[Path, ...] = ()
    """Outputs of other methods on the same items, for rows in the same table."""
    pages: bool = True
    """Write a page for every item, for which Blender renders the prediction."""
    offline: bool = False
    """Read the hub's local cache only."""
    workers: int | None = None
    """Items judged at the same time, each by one thread. Default: the CPUs for distances without a GPU, else 1."""

    def __post_init__(self) -> None:
        if self.exact and self.pruned:
            raise ConfigError("--exact and --pruned exclude each other")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"limit is {self.limit}: at least 1")
        if self.workers is not None and self.workers < 1:
            raise ConfigError(f"workers is {self.workers}: at least 1")
        if min(self.points, self.alignment_points) < 1:
            raise ConfigError(f"{self.points} points, {self.alignment_points} for the alignment: at least 1 is needed")


Progress = Callable[[int, int, str], None]


def run_evaluation(
    config: EvaluateRun,
    progress: Progress | None = None,
    draw_clip: Callable[[Clip, View], np.ndarray] = draw,
    known: Sequence[Measure] | None = None,
) -> Table:
    """Judge every item and write the table.

    Args:
        config: what the command line says.
        progress: told items done, items in all, and the key.
        draw_clip: makes the pictures.
        known: the metrics to choose from; None for the registry's.

    Raises:
        ConfigError: if bench, method, metrics or output do not fit.
    """
    if not config.predictions.is_dir():
        raise ConfigError(f"{config.predictions}: no such folder: --predictions holds a folder for every item")
    bench = open_bench(config.bench, config.data, config.offline)
    method = find_method(config.method, config.glob, config.axes, config.textured, config.frames)
    protocol = Protocol(
        points=config.points, alignment_points=config.alignment_points, alignment=PRUNED if config.pruned else EXACT
    )
    asked = _metrics(config.metrics, bench, metrics(protocol, config.weights) if known is None else known)
    unavailable = {metric.name: reason for metric in asked if (reason := metric.available()) is not None}
    for name, reason in unavailable.items():
        log.warning("%s: n/a: %s", name, reason)
    device = choose_device(config.device)
    items = bench.items[: config.limit]
    judge = Judge(bench, method, config.predictions, config.output, asked, unavailable, device, draw_clip)
    title = f"{bench.label}, {method.label}"
    step = partial(_evaluate, judge, title if config.pages else None)
    found: dict[str, ItemResult] = {}
    with locked(config.output):
        _agree(config.output, _plan(bench, method, protocol, device), asked)
        for result in work(step, items, _workers(config.workers, len(items), device, asked)):
            if result.state == "failed":
                log.warning("%s: failed: %s", result.key, result.reason)
            found[result.key] = result
            if progress is not None:
                progress(len(found), len(items), result.key)
        results = [found[item.key] for item in items]
        if config.pages:
            write_index(config.output, title, results, asked)
        table = _table(config, bench, method, protocol, device, asked, results)
        write_table(config.output, table)
    return table


def _evaluate(judge: Judge, title: str | None, bench_item: BenchItem) -> ItemResult:
    """An item's result, and its page if there is a title."""
    result, item = judge.judge(bench_item)
    if title is not None:
        write_page(judge.output, title, result, judge.metrics, lambda: judge.read(bench_item) if item is None else item)
    return result


def _workers(asked: int | None, items: int, device: torch.device, metrics: Sequence[Measure]) -> int:
    """Distances need little memory; what loads weights is not started many times unasked."""
    light = device.type == "cpu" and all(metric.checkpoint is None for metric in metrics)
    return min(asked or ((os.cpu_count() or 1) if light else 1), items)


def _metrics(names: Sequence[str], bench: Bench, known: Sequence[Measure]) -> tuple[Measure, ...]:
    """The named metrics; by default those that need what is special to the bench: a true surface where it has one."""
    if names:
        return choose(names, known)
    offered = [metric for metric in known if metric.needs <= bench.offers | {Need.TEXTURE}]
    chosen = tuple(m for m in offered if (Need.TRUTH in m.needs) == (Need.TRUTH in bench.offers))
    if not chosen:
        raise ConfigError(
            f"{bench.label}: no metric for what it offers ({', '.join(sorted(bench.offers))}): say --metrics"
        )
    return chosen


def _plan(bench: Bench, method: Method, protocol: Protocol, device: torch.device) -> dict[str, Any]:
    """All that numbers depend on, but for the predictions' files and the metrics."""
    return {
        "bench": bench.name,
        "items_sha256": bench.items_sha256(),
        "method": asdict(method),
        "protocol": asdict(protocol),
        "device": device.type,
    }


def _agree(output: Path, plan: dict[str, Any], asked: Sequence[Measure]) -> None:
    """What the first run wrote down is that of every later one; metrics may be added."""
    path = output / PLAN_FILE
    columns = {metric.name: column(metric) for metric in asked}
    stored: dict[str, Any] = {}
    if path.exists():
        try:
            stored = json.loads(path.read_bytes())
        except ValueError as error:
            raise FormatError(f"{path}: damaged ({error}): use a new --output") from error
        PLAN.check(stored, path)
        now = json.loads(json.dumps({**plan, **columns}))
        then = {**stored["settings"], **stored["metrics"]}
        both = now.keys() & then.keys()
        if wrong := differences({name: then[name] for name in both}, {name: now[name] for name in both}):
            raise ConfigError(f"{output}: begun with other settings ({'; '.join(wrong)}): use a new --output")
        columns = {**stored["metrics"], **columns}
    write_json(path, {"version": PLAN.version, "settings": plan, "metrics": columns})


def _table(
    config: EvaluateRun,
    bench: Bench,
    method: Method,
    protocol: Protocol,
    device: torch.device,
    asked: Sequence[Measure],
    results: Sequence[ItemResult],
) -> Table:
    rows = [build_row(bench, method, asked, results, config.output)]
    table = Table(
        bench=bench.name,
        label=bench.label,
        items=len(results),
        items_sha256=bench.items_sha256(len(results)),
        columns=[column(metric) for metric in asked],
        rows=rows,
        notes=_notes(bench, method, protocol, device, asked, len(results)),
        failures={result.key: result.reason or "" for result in results if result.state == "failed"},
        protocol=asdict(protocol) if any(Need.TRUTH in metric.needs for metric in asked) else None,
    )
    others = [row for output in config.beside for row in measured_rows(output, table)]
    return replace(table, rows=[*rows, *others, *published(bench, asked)])


def _notes(
    bench: Bench,
    method: Method,
    protocol: Protocol,
    device: torch.device,
    asked: Sequence[Measure],
    judged: int,
) -> list[str]:
    notes = [
        *bench.notes,
        *([f"the first {judged} items of {len(bench.items)} alone"] if judged < len(bench.items) else []),
        f"{method.label}: files {method.glob} ({method.layout}), axes {method.axes}, "
        f"{'textured' if method.textured else 'without textures'}; {method.told}",
        f"frames: {'all' if method.frames is None else f'{method.frames}, uniformly spaced'}; of more files than "
        "frames the first in natural order count",
        f"device: {device.type}",
    ]
    if any(Need.TRUTH in metric.needs for metric in asked):
        alignment = protocol.alignment
        starts = "all 24 starts" if alignment.refined is None else f"the best {alignment.refined} of 24 starts (ours)"
        notes.append(
            f"alignment: {starts}, {alignment.steps} steps of Adam at {alignment.learning_rate}, "
            f"{protocol.alignment_points:,} points; distances: {protocol.queries:,} queries among {protocol.points:,} "
            f"points a frame; seed {protocol.seed} + frame"
        )
        if replace(protocol, alignment=EXACT) != Protocol():
            notes.append("a quick look: with fewer points than ActionBench's protocol has")
    return notes
