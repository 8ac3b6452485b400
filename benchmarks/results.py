"""The printed output of a benchmark and its section of results.json, from which the documentation is generated.

A benchmark declares a `Report`, prints its tables through it and saves it. Its section replaces that of the previous
run, with date, commit, machine and versions. `benchmarks/docs.py` writes the tables into README.md and docs/.
"""

from __future__ import annotations

import argparse
import datetime
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil

import helix4d
from helix4d.core import write_json

REPOSITORY = Path(__file__).resolve().parent.parent
RESULTS = Path(__file__).with_name("results.json")
PACKAGES = ("numpy", "numba", "torch", "bpy", "ray", "pillow")
"""Packages whose versions a section records, if they are installed."""


@dataclass(frozen=True)
class Spread:
    """Median, minimum and maximum of several runs."""

    median: float
    low: float
    high: float
    runs: int

    @classmethod
    def of(cls, values: Sequence[float], scale: float = 1.0) -> Spread:
        """Return the spread of values, each multiplied by `scale`."""
        scaled = [value * scale for value in values]
        return cls(statistics.median(scaled), min(scaled), max(scaled), len(scaled))

    @classmethod
    def of_ratios(cls, numerators: Sequence[float], denominators: Sequence[float]) -> Spread:
        """Return the spread of the ratios of alternating runs, each pair under the same load."""
        return cls.of([a / b for a, b in zip(numerators, denominators, strict=True)])


Cell = str | int | float | Spread | None


@dataclass(frozen=True)
class Column:
    """Title and Python format of a column's numbers, such as ".2f"; text is printed as it is."""

    title: str
    format: str = ""

    def show(self, cell: Cell) -> str:
        """Format a cell; a spread as its median, with minimum and maximum in parentheses."""
        match cell:
            case None:
                return ""
            case str():
                return cell
            case Spread(median, _, _, 1):
                return f"{median:{self.format}}"
            case Spread(median, low, high, _):
                return f"{median:{self.format}} ({low:{self.format}} to {high:{self.format}})"
        return f"{cell:{self.format}}"


@dataclass
class Table:
    """A table that is printed row by row as results come in."""

    columns: tuple[Column, ...]
    rows: list[tuple[Cell, ...]] = field(default_factory=list)

    def add(self, *cells: Cell) -> None:
        """Add a row and print it, after the header if it is the first."""
        if len(cells) != len(self.columns):
            raise ValueError(f"{len(cells)} cells for {len(self.columns)} columns: give one cell per column")
        if not self.rows:
            print("\n" + "\n".join(self._header()))
        self.rows.append(cells)
        print(self._row(cells), flush=True)

    def markdown(self) -> str:
        """Return the table in Markdown."""
        return "\n".join([*self._header(), *map(self._row, self.rows)])

    def _header(self) -> list[str]:
        return [f"| {' | '.join(column.title for column in self.columns)} |", "|---" * len(self.columns) + "|"]

    def _row(self, cells: tuple[Cell, ...]) -> str:
        shown = [column.show(cell) for column, cell in zip(self.columns, cells, strict=True)]
        return f"| {' | '.join(shown)} |"


class Report:
    """Options, printed tables and saved section of a benchmark.

    Args:
        name: name of the section and of the file in `benchmarks/`.
        doc: docstring of the benchmark, shown by `--help`.
        quick: what `--quick` reduces.
    """

    def __init__(self, name: str, doc: str | None, quick: str) -> None:
        self.name = name
        self.parser = argparse.ArgumentParser(
            prog=f"{name}.py", description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
        )
        self.parser.add_argument("--quick", action="store_true", help=quick)
        where = "file that the section is saved to (default: results.json beside the benchmarks)"
        self.parser.add_argument("--results", type=Path, default=RESULTS, metavar="FILE", help=where)
        self.tables: dict[str, Table] = {}
        self.values: dict[str, tuple[Cell, str]] = {}

    def parse(self) -> argparse.Namespace:
        """Parse the command line, and record the machine's load before anything is measured."""
        self.options = self.parser.parse_args()
        self._load = os.getloadavg()[0]
        return self.options

    def table(self, name: str, *columns: Column) -> Table:
        """Begin a table, which is `SECTION/NAME` in the documentation."""
        self.tables[name] = Table(columns)
        return self.tables[name]

    def value(self, name: str, cell: Cell, number: str = "") -> None:
        """Print a single figure, which is `SECTION/NAME` in the documentation; `number` is its Python format."""
        self.values[name] = (cell, number)
        print(f"{name.replace('_', ' ')}: {Column('', number).show(cell)}", flush=True)

    def save(self) -> None:
        """Replace this benchmark's section of the results."""
        document = json.loads(self.options.results.read_text()) if self.options.results.exists() else {}
        document[self.name] = {
            "command": self._command(),
            "date": datetime.date.today().isoformat(),
            "commit": _commit(),
            "quick": self.options.quick,
            "machine": {**_machine(), "load": round(self._load, 1)},
            "versions": _versions(),
            "tables": {name: _stored(table) for name, table in self.tables.items()},
            "values": {name: {"value": _plain(cell), "format": f} for name, (cell, f) in self.values.items()},
        }
        write_json(self.options.results, dict(sorted(document.items())))

    def _command(self) -> str:
        """Return the command with its options; paths are reduced to the file's name."""
        words = ["python", f"benchmarks/{self.name}.py"]
        for action in self.parser._actions:
            value = getattr(self.options, action.dest, None)
            if action.dest in ("help", "results") or value in (action.default, None, False, []):
                continue
            words += action.option_strings[-1:]
            values = value if isinstance(value, list) else [] if value is True else [value]
            words += [item.name if isinstance(item, Path) else str(item) for item in values]
        return " ".join(words)


def alternate(
    runs: Mapping[str, Callable[[], object]], rounds: int, clock: Callable[[], float] = time.process_time
) -> dict[str, list[float]]:
    """Return the seconds of several functions that alternate under the same load; by default CPU seconds."""
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    for _ in range(rounds):
        for name, run in runs.items():
            start = clock()
            run()
            seconds[name].append(clock() - start)
    return seconds


def read_table(stored: Mapping[str, Any]) -> Table:
    """Return a table stored in results.json."""
    columns = tuple(Column(column["title"], column["format"]) for column in stored["columns"])
    return Table(columns, [tuple(map(read_cell, row)) for row in stored["rows"]])


def read_cell(stored: Any) -> Cell:
    """Return a cell or value stored in results.json."""
    return Spread(**stored) if isinstance(stored, dict) else stored


def _stored(table: Table) -> dict[str, Any]:
    columns = [{"title": column.title, "format": column.format} for column in table.columns]
    return {"columns": columns, "rows": [list(map(_plain, row)) for row in table.rows]}


def _plain(cell: Cell) -> Any:
    return {**vars(cell)} if isinstance(cell, Spread) else cell


def _machine() -> dict[str, Any]:
    """Return the properties of the machine that affect the figures, without host name and paths."""
    try:
        model = re.search(r"^model name\s*:\s*(.*)$", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    except OSError:
        model = None
    found = {
        "cpu": model[1].strip() if model else platform.processor() or platform.machine(),
        "cores": os.cpu_count(),
        "memory_gb": round(psutil.virtual_memory().total / 1e9),
    }
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_available():
        found["gpu"] = torch.cuda.get_device_name()
    return found


def _versions() -> dict[str, str]:
    versions = {"helix4d": helix4d.__version__, "python": platform.python_version()}
    for name in PACKAGES:
        try:
            versions[name] = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            continue
    return versions


def _commit() -> str | None:
    """Return the short hash of the checkout, with a plus sign if tracked files differ; None outside of git."""
    try:
        # Only files that are measured: documentation and results change with every run.
        others = [":!docs", ":!*.md", f":!{RESULTS}"]
        changed = ["git", "status", "--porcelain", "--untracked-files=no", "--", ".", *others]
        head = _git(["git", "rev-parse", "--short", "HEAD"])
        return head + ("+" if _git(changed) else "")
    except (OSError, subprocess.CalledProcessError):
        return None


def _git(command: list[str]) -> str:
    done = subprocess.run(command, cwd=REPOSITORY, check=True, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    return done.stdout.decode().strip()
