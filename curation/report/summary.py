"""Summarizes a run: totals that add up, a table for the terminal, and a contact sheet of the samples."""

from __future__ import annotations

import io
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image
from rich.console import Console
from rich.table import Table

from helix4d.core import FormatError, Helix4DError, write_bytes
from helix4d.curation.config import CurateConfig, SampleConfig, flat_settings
from helix4d.curation.places.folder import Place, file_in
from helix4d.curation.plan.plan import Plan
from helix4d.curation.report.words import counted, duration, size_of
from helix4d.curation.shards.layout import SUMMARY_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome, count
from helix4d.curation.shards.members import decode_image
from helix4d.curation.shards.reader import ShardReader
from helix4d.curation.shards.sidecar import Committed, committed_of, read_sidecar
from helix4d.render import contact_sheet

_STAGES = ("bake", "filter", "normalize", "voxelize", "render", "encode", "pack")
_SHEET_SAMPLES = 16
_SHEET_FRAMES = 6
_SHEET_PIXELS = 160


@dataclass(frozen=True)
class RunFigures:
    """Throughput of a run.

    Attributes:
        ended: number of assets that ended in the run.
        workers: number of assets processed at the same time.
        busy_s: seconds that all workers spent in stages.
        work_s: seconds from the start of the first asset to the end of the last.
        wall_s: seconds of the whole run.
    """

    ended: int = 0
    workers: int = 0
    busy_s: float = 0.0
    work_s: float = 0.0
    wall_s: float = 0.0

    @property
    def utilization(self) -> float:
        """Share of the workers' time spent in stages; the rest is startup, lost attempts and waiting."""
        return self.busy_s / (self.workers * self.work_s) if self.workers and self.work_s else 0.0

    @property
    def assets_per_hour(self) -> float:
        """Assets that ended per hour of work."""
        return 3600 * self.ended / self.work_s if self.work_s else 0.0


@dataclass(frozen=True)
class Summary:
    """Totals over the whole output, earlier runs included, and figures of the last run.

    Attributes:
        assets: number of input assets; the sum of `counts`.
        counts: `done`, `filtered: REASON`, `failed: REASON` -> assets.
        samples: number of samples in the shards.
        shards: split -> number of shards.
        bytes: size of all shards.
        timings_s: stage -> seconds over all assets.
        slowest_s: stage -> seconds of the slowest asset.
        peak_bytes: largest resident memory of any worker.
        attempts: attempts over all assets; an asset has more than one if its process died.
        wall_s: seconds of the last run.
        ended, workers, utilization, assets_per_hour: figures of the last run, as in `RunFigures`.
    """

    assets: int
    counts: dict[str, int]
    samples: int
    shards: dict[str, int]
    bytes: int
    timings_s: dict[str, float]
    slowest_s: dict[str, float]
    peak_bytes: int
    attempts: int
    wall_s: float
    ended: int
    workers: int
    utilization: float
    assets_per_hour: float

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return asdict(self)


def summarize(plan: Plan, ledger: Ledger, output: Path, run: RunFigures) -> Summary:
    """Summarize an output.

    Raises:
        Helix4DError: if the totals do not add up, which would mean that an asset was lost or duplicated.
    """
    sidecars = (read_sidecar(output / f"{shard.name}.tar") for shard in plan.shards)
    committed = [committed_of(sidecar) for sidecar in sidecars if sidecar]
    return add_up(plan, ledger.outcomes, committed, run, str(output))


def add_up(
    plan: Plan, ended: Mapping[str, Outcome], committed: Sequence[Committed], run: RunFigures, where: str
) -> Summary:
    """Summarize an output from data that was already read.

    Args:
        plan: plan of the output.
        ended: asset -> last outcome.
        committed: committed shards.
        run: figures of the last run.
        where: name of the output, for messages.

    Raises:
        Helix4DError: if the totals do not add up.
    """
    names = [asset.source.name for _, asset in plan.assets()] + list(plan.left_out)
    outcomes = [ended[name] for name in names if name in ended]
    keys = [key for shard in committed for key in shard.keys]
    expected = sorted(key for outcome in outcomes for key in outcome.keys)
    if len(outcomes) != len(names) or sorted(keys) != expected:
        raise Helix4DError(
            f"{where}: the totals do not add up: {len(names)} assets in the plan but {len(outcomes)} in the ledger, "
            f"{len(expected)} samples in the ledger but {len(keys)} in the shards: run `helix4d verify`"
        )
    timings: Counter[str] = Counter()
    slowest: dict[str, float] = {}
    for outcome in outcomes:
        timings.update(outcome.timings_s)
        for stage, seconds in outcome.timings_s.items():
            slowest[stage] = max(seconds, slowest.get(stage, 0.0))
    return Summary(
        assets=len(names),
        counts=dict(sorted(count(outcomes).items())),
        samples=len(keys),
        shards=dict(Counter(shard.split for shard in plan.shards)),
        bytes=sum(shard.bytes for shard in committed),
        timings_s={stage: round(seconds, 1) for stage, seconds in timings.items()},
        slowest_s={stage: round(seconds, 1) for stage, seconds in slowest.items()},
        peak_bytes=max((outcome.peak_bytes for outcome in outcomes), default=0),
        attempts=sum(outcome.attempts for outcome in outcomes),
        wall_s=round(run.wall_s, 1),
        ended=run.ended,
        workers=run.workers,
        utilization=round(run.utilization, 3),
        assets_per_hour=round(run.assets_per_hour, 1),
    )


def in_order(stages: Iterable[str]) -> list[str]:
    """Sort stages in the order of the work. The ledger sorts those of an asset by name."""
    order = {stage: number for number, stage in enumerate(_STAGES)}
    return sorted(stages, key=lambda stage: (order.get(stage, len(order)), stage))


def print_plan(plan: Plan, sample: SampleConfig) -> None:
    """Print what a run would do."""
    table = _table("Plan", "split", "shards", "assets")
    for split in dict.fromkeys(shard.split for shard in plan.shards):
        shards = [shard for shard in plan.shards if shard.split == split]
        table.add_row(split, f"{len(shards):,}", f"{sum(len(shard.assets) for shard in shards):,}")
    console = Console(markup=False)
    console.print(table)
    for reason, number in sorted(Counter(why.reason for why in plan.left_out.values()).items()):
        console.print(f"{counted(number, 'asset')} left out, {reason.state}: {reason}")
    _print_settings(console, sample)


def _table(title: str, *columns: str) -> Table:
    """Return a table whose columns hold numbers, except the first."""
    table = Table(title=title)
    for number, name in enumerate(columns):
        table.add_column(name, justify="right" if number else "left")
    return table


def _print_settings(console: Console, sample: SampleConfig) -> None:
    """Print the settings of every sample, without thresholds that are off."""
    settings = flat_settings(sample.to_json()).items()
    console.print("settings: " + ", ".join(f"{name}={value}" for name, value in settings if value not in (None, "")))


def print_summary(summary: Summary, config: CurateConfig) -> None:
    """Print the result of a run, and where to find it."""
    console = Console(markup=False)
    table = _table("Result", "outcome", "assets")
    for name, number in summary.counts.items():
        table.add_row(name, f"{number:,}")
    table.add_section()
    table.add_row("total", f"{sum(summary.counts.values()):,}")
    console.print(table)
    shards = ", ".join(f"{number:,} {split}" for split, number in summary.shards.items()) or "none"
    console.print(
        f"{counted(summary.samples, 'sample')}, {size_of(summary.bytes)} (shards: {shards}), "
        f"finished in {duration(summary.wall_s)}"
    )
    if summary.ended:
        console.print(
            f"throughput: {summary.assets_per_hour:,.0f} assets per hour with {counted(summary.workers, 'worker')}, "
            f"{summary.utilization:.0%} utilized"
        )
    total_s = sum(summary.timings_s.values()) or 1.0
    if summary.timings_s:
        stages = [(name, summary.timings_s[name]) for name in in_order(summary.timings_s)]
        console.print(
            "worker time by stage: " + ", ".join(f"{name} {duration(s)} ({s / total_s:.0%})" for name, s in stages)
        )
    if summary.peak_bytes:
        console.print(f"peak memory of a worker: {size_of(summary.peak_bytes)}")
    _print_settings(console, config.sample)
    # Paths are printed last and unwrapped, so that they can be copied.
    where = config.remote or config.output
    for name in ("ledger.jsonl", SUMMARY_FILE, "contact_sheet.webp", "report/index.html"):
        if (config.output / name).exists():
            what = name.split("/")[0].split(".")[0].replace("_", " ")
            console.out(f"{what}: {where}/{name}", highlight=False)


def write_contact_sheet(path: Path, plan: Plan, output: Place) -> None:
    """Write a contact sheet with a row for each of the first samples of an output. No file if nothing was rendered."""
    rows, labels = first_view_rows(ShardReader(file_in(output, f"{shard.name}.tar")) for shard in plan.shards)
    if rows:
        write_bytes(path, sheet_bytes(contact_sheet(rows, labels)))


def first_view_rows(readers: Iterable[ShardReader]) -> tuple[list[list[np.ndarray]], list[list[str]]]:
    """Collect frames of the first view of the first rendered samples, and a label for each image."""
    rows: list[list[np.ndarray]] = []
    labels: list[list[str]] = []
    for reader in readers:
        for key in reader.keys():  # noqa: SIM118 (not a dict)
            images = [m for m in reader.members(key) if m.startswith("view_00_frame_") and m.endswith(".webp")]
            if len(rows) == _SHEET_SAMPLES:
                return rows, labels
            if not images:
                continue
            picked = [images[round(i)] for i in np.linspace(0, len(images) - 1, min(_SHEET_FRAMES, len(images)))]
            found = reader.read_members(key, picked)
            rows.append([thumbnail(found[suffix], _SHEET_PIXELS) for suffix in picked])
            labels.append([Path(reader.sample(key)["asset"]).stem, *("" for _ in picked[1:])])
    return rows, labels


def thumbnail(webp: bytes, size: int) -> np.ndarray:
    """Decode and resize an image to (size, size, 4) uint8.

    Raises:
        FormatError: if it does not decode.
    """
    try:
        image = decode_image(webp, "an image of the shard").convert("RGBA")
    except FormatError as error:
        raise FormatError(f"{error}: run `helix4d verify`") from error
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def sheet_bytes(sheet: np.ndarray) -> bytes:
    """Encode a contact sheet, (H, W, 3) uint8, as WebP."""
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "WEBP", quality=90)
    return stream.getvalue()
