"""Write results as a table in CSV, JSON and Markdown, with counts, intervals, definitions and published numbers.

Every cell states how many items it averages, so items without a value are never dropped silently.
"""

from __future__ import annotations

import csv
import io
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core import ConfigError, Schema, generator, write_bytes, write_json
from helix4d.core.documents import parse_document
from helix4d.evaluation.methods.benches import Bench
from helix4d.evaluation.methods.methods import Method
from helix4d.evaluation.metrics.metric import Measure, Need, NotAvailable, SetMetric
from helix4d.evaluation.results import ItemResult, read_features
from helix4d.evaluation.tables.paper_tables import published_rows

TABLE = Schema("evaluation table", version=2, oldest=2, rewrite="run the evaluation again")
MEASURED = "measured"
RESAMPLES = 10_000
_LEVEL = 0.95
_SHOWN_REASONS = 12


@dataclass(frozen=True)
class Cell:
    """A metric of a method.

    Args:
        value: mean over the items with a value, or the value of the set; None if not available.
        low, high: bootstrap interval of the mean over items; None for sets and for fewer than two items.
        count: number of items with a value; None for published numbers.
        reason: reason why values are not available.
        defined: whether the metric is defined for the method.
    """

    value: float | None
    low: float | None = None
    high: float | None = None
    count: int | None = None
    reason: str | None = None
    defined: bool = True


@dataclass(frozen=True)
class Row:
    """A row of the table: name of the method, origin of the numbers, cells by metric, and number of failed items."""

    method: str
    origin: str
    cells: Mapping[str, Cell]
    failed: int | None = None


@dataclass(frozen=True)
class Table:
    """Contents of a table.

    Args:
        bench: name of the bench.
        label: label of the bench.
        items: number of items, equal for all measured rows.
        items_sha256: hash of the items' keys and reference data.
        columns: name, label, direction, definition, checkpoint and choices of each metric.
        rows: measured rows, then published rows.
        notes: settings and our choices, one sentence each.
        failures: reasons of the failed items of the first row, by key.
        protocol: protocol of the distances; None if there are none.
    """

    bench: str
    label: str
    items: int
    items_sha256: str
    columns: Sequence[Mapping[str, Any]]
    rows: Sequence[Row]
    notes: Sequence[str]
    failures: Mapping[str, str] = field(default_factory=dict)
    protocol: Mapping[str, Any] | None = None


def build_row(
    bench: Bench, method: Method, metrics: Sequence[Measure], results: Sequence[ItemResult], output: Path
) -> Row:
    """Build the row of one method."""
    cells = {metric.name: _cell(bench, method, metric, results, output) for metric in metrics}
    failed = sum(result.state == "failed" for result in results)
    return Row(method.label, MEASURED, cells, failed)


def bootstrap_interval(values: Sequence[float], *names: str) -> tuple[float, float] | None:
    """Return the 95% bootstrap interval of the mean from 10,000 resamples; None for fewer than two values.

    Args:
        values: one value per item.
        names: names that seed the generator.
    """
    if len(values) < 2:
        return None
    numbers = np.asarray(values, np.float64)
    drawn = generator("evaluation", "bootstrap", *names).integers(len(numbers), size=(RESAMPLES, len(numbers)))
    low, high = np.quantile(numbers[drawn].mean(axis=1), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


def column(metric: Measure) -> dict[str, Any]:
    """Return the description of a metric in tables."""
    return {
        "name": metric.name,
        "label": metric.label,
        "higher_is_better": metric.higher_is_better,
        "definition": metric.definition,
        "checkpoint": metric.checkpoint,
        "choices": list(metric.choices),
    }


def published(bench: Bench, metrics: Sequence[Measure]) -> list[Row]:
    """Return the published rows that have a number in at least one column."""
    names = {metric.name for metric in metrics}
    rows = [
        Row(row.method, row.origin, {name: Cell(value) for name, value in row.values.items() if name in names})
        for row in published_rows(bench.name)
    ]
    return [row for row in rows if row.cells]


def write_table(output: Path, table: Table) -> None:
    """Write `table.csv`, `table.md` and, last, `table.json`."""
    write_bytes(output / "table.csv", _csv(table).encode())
    write_bytes(output / "table.md", markdown(table).encode())
    write_json(output / "table.json", {"version": TABLE.version, **asdict(table)})


def measured_rows(output: Path, like: Table) -> list[Row]:
    """Read the rows measured by another run on the same items.

    Raises:
        ConfigError: if its bench, items, protocol or definitions differ.
        FormatError: if its table is damaged.
    """
    path = output / "table.json"
    try:
        content = parse_document(path.read_bytes(), TABLE, path)
    except OSError as error:
        raise ConfigError(f"{output}: no table.json: complete its evaluation first") from error
    if (content["bench"], content["items_sha256"]) != (like.bench, like.items_sha256):
        raise ConfigError(
            f"{path}: its {content['items']} items of {content['bench']} differ from the {like.items} of this run"
        )
    if content["protocol"] and like.protocol and content["protocol"] != like.protocol:
        raise ConfigError(f"{path}: its protocol {content['protocol']} differs from this run's {dict(like.protocol)}")
    ours = {entry["name"]: dict(entry) for entry in like.columns}
    for entry in content["columns"]:
        if entry["name"] in ours and entry != ours[entry["name"]]:
            raise ConfigError(f"{path}: its definition of {entry['name']} differs from this run's")
    return [
        Row(row["method"], row["origin"], {k: Cell(**v) for k, v in row["cells"].items() if k in ours}, row["failed"])
        for row in content["rows"]
        if row["origin"] == MEASURED
    ]


def markdown(table: Table) -> str:
    """Format the table in Markdown."""
    heads = [f"{c['label']} {'↑' if c['higher_is_better'] else '↓'}" for c in table.columns]
    lines = [
        f"# {table.label}, {table.items} items",
        "",
        f"| method | {' | '.join(heads)} | failed | origin |",
        f"|---|{'---:|' * len(heads)}---:|---|",
    ]
    for row in table.rows:
        cells = [_shown(row.cells.get(c["name"]), table.items) for c in table.columns]
        failed = "" if row.failed is None else f"{row.failed} of {table.items}"
        lines.append(f"| {row.method} | {' | '.join(cells)} | {failed} | {row.origin} |")
    lines += [
        "",
        f"Brackets: 95% bootstrap interval of the mean ({RESAMPLES:,} resamples of the items). Parentheses: number of "
        "items with a value.",
        "Rows of different origins are not directly comparable." if len(table.rows) > 1 else "",
        "",
        *(f"- {c['label']}: {c['definition']}{_weights(c)}." for c in table.columns),
    ]
    ours = _grouped([(c["label"], choice) for c in table.columns for choice in c["choices"]])
    lines += ["", "Our choices where the paper does not specify details:", "", *ours] if ours else []
    lines += ["", "Settings:", "", *(f"- {note}." for note in table.notes)]
    missing = _grouped([(c["label"], reason) for c in table.columns for reason in _reasons(table.rows, c["name"])])
    lines += ["", "Not available:", "", *missing] if missing else []
    if table.failures:
        lines += ["", f"Failed ({len(table.failures)} of {table.items}):", ""]
        shown = sorted(table.failures.items())
        lines += [f"- {key}: {reason}" for key, reason in shown[:_SHOWN_REASONS]]
        lines += [f"- and {len(shown) - _SHOWN_REASONS} more, see table.json"] if len(shown) > _SHOWN_REASONS else []
    return "\n".join(lines) + "\n"


def _cell(bench: Bench, method: Method, metric: Measure, results: Sequence[ItemResult], output: Path) -> Cell:
    if Need.TEXTURE in metric.needs and not method.textured:
        return Cell(None, count=0, reason="the method generates no textures", defined=False)
    outcomes = [(result.key, result.outcomes[metric.name]) for result in results if metric.name in result.outcomes]
    reasons = Counter(outcome.reason for _, outcome in outcomes if outcome.reason is not None)
    summary = "; ".join(f"{reason} ({count} of {len(results)})" for reason, count in reasons.most_common(3)) or None
    if isinstance(metric, SetMetric):
        with_features = [key for key, outcome in outcomes if outcome.features is not None]
        if not with_features:
            return Cell(None, count=0, reason=summary)
        answer = metric.reduce([read_features(output, key, metric.name) for key in with_features])
        if isinstance(answer, NotAvailable):
            return Cell(None, count=len(with_features), reason=answer.reason)
        return Cell(float(answer), count=len(with_features), reason=summary)
    values = [outcome.value for _, outcome in outcomes if outcome.value is not None]
    if not values:
        return Cell(None, count=0, reason=summary)
    low, high = bootstrap_interval(values, bench.name, method.name, metric.name) or (None, None)
    return Cell(float(np.mean(values)), low, high, len(values), summary)


def _csv(table: Table) -> str:
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    kinds = ("", "_low", "_high", "_n")
    names = [entry["name"] for entry in table.columns]
    writer.writerow(["method", "origin", "items", "failed", *(name + kind for name in names for kind in kinds)])
    for row in table.rows:
        cells = [row.cells.get(name, Cell(None)) for name in names]
        numbers = [n for cell in cells for n in (cell.value, cell.low, cell.high, cell.count)]
        items = table.items if row.origin == MEASURED else None
        writer.writerow(["" if n is None else n for n in (row.method, row.origin, items, row.failed, *numbers)])
    return stream.getvalue()


def _shown(cell: Cell | None, items: int) -> str:
    if cell is None or not cell.defined:
        return "–"
    count = "" if cell.count is None else f" ({cell.count} of {items})"
    if cell.value is None:
        return f"n/a{count}"
    interval = "" if cell.low is None or cell.high is None else f" [{cell.low:.4g}, {cell.high:.4g}]"
    return f"{cell.value:.4g}{interval}{count}"


def _grouped(entries: Sequence[tuple[str, str]]) -> list[str]:
    """Format (label, sentence) pairs with one line per sentence, preceded by its labels."""
    labels: dict[str, list[str]] = {}
    for label, sentence in entries:
        labels.setdefault(sentence, []).append(label)
    return [f"- {', '.join(group)}: {sentence}." for sentence, group in labels.items()]


def _weights(entry: Mapping[str, Any]) -> str:
    return f". Weights: {entry['checkpoint']}" if entry["checkpoint"] else ""


def _reasons(rows: Sequence[Row], name: str) -> list[str]:
    return [
        f"{row.method}: {cell.reason}"
        for row in rows
        if (cell := row.cells.get(name)) is not None and cell.reason is not None and cell.defined
    ]
