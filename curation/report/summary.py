"""What came of a run: numbers that add up, a table, and a picture of the samples."""

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

from helix4d.core import AssetState, FormatError, Helix4DError, ReasonCode, write_bytes
from helix4d.curation.config import CurateConfig, SampleConfig, flat_settings
from helix4d.curation.places.folder import Place, file_in
from helix4d.curation.plan.plan import Plan
from helix4d.curation.shards.layout import SUMMARY_FILE
from helix4d.curation.shards.ledger import Ledger, Outcome, count
from helix4d.curation.shards.shard import Committed, ShardReader, committed_of, read_sidecar
from helix4d.render import contact_sheet

_SHEET_SAMPLES = 16
_SHEET_FRAMES = 6
_SHEET_PIXELS = 160


@dataclass(frozen=True)
class RunFigures:
    """How busy a run was.

    Attributes:
        ended: assets that ended in it.
        workers: assets that could be worked on at the same time.
        busy_s: seconds of all workers inside stages.
        work_s: from the first asset begun to the last one ended.
        wall_s: of the whole run.
    """

    ended: int = 0
    workers: int = 0
    busy_s: float = 0.0
    work_s: float = 0.0
    wall_s: float = 0.0

    @property
    def utilization(self) -> float:
        """Share of the workers' time that went into stages; the rest are starts, lost attempts and waiting."""
        return self.busy_s / (self.workers * self.work_s) if self.workers and self.work_s else 0.0

    @property
    def assets_per_hour(self) -> float:
        """Ended assets per hour of work."""
        return 3600 * self.ended / self.work_s if self.work_s else 0.0


@dataclass(frozen=True)
class Summary:
    """Totals over the whole output, earlier runs included; figures of the last run where said so.

    Attributes:
        assets: inputs; the sum of `counts`.
        counts: `done`, `filtered: REASON`, `failed: REASON` -> assets.
        samples: in the shards.
        shards: split -> number of shards.
        bytes: of all shards.
        timings_s: seconds per stage over all assets.
        slowest_s: seconds of the slowest asset per stage.
        peak_bytes: the largest resident size of any worker.
        attempts: over all assets; more than one each where a process died.
        wall_s: of this run.
        ended, workers, utilization, assets_per_hour: of this run, as `RunFigures`.
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
        """The values as JSON."""
        return asdict(self)


def summarize(plan: Plan, ledger: Ledger, output: Path, run: RunFigures) -> Summary:
    """Add everything up.

    Raises:
        Helix4DError: if the numbers do not add up, which would mean that an asset was lost or doubled.
    """
    sidecars = (read_sidecar(output / f"{shard.name}.tar") for shard in plan.shards)
    committed = [committed_of(sidecar) for sidecar in sidecars if sidecar]
    return add_up(plan, ledger.outcomes, committed, run, str(output))


def add_up(
    plan: Plan, ended: Mapping[str, Outcome], committed: Sequence[Committed], run: RunFigures, where: str
) -> Summary:
    """`summarize` of what was read already.

    Args:
        plan: of the output.
        ended: asset -> its last outcome.
        committed: the shards.
        run: figures of the last run.
        where: the output, as people would name it.

    Raises:
        Helix4DError: as `summarize`.
    """
    names = [asset.source.name for _, asset in plan.assets()] + list(plan.left_out)
    outcomes = [ended[name] for name in names if name in ended]
    keys = [key for shard in committed for key in shard.keys]
    expected = sorted(key for outcome in outcomes for key in outcome.keys)
    if len(outcomes) != len(names) or sorted(keys) != expected:
        raise Helix4DError(
            f"{where}: {len(names)} assets, {len(outcomes)} in the ledger, with {len(expected)} keys, "
            f"and {len(keys)} samples in the shards: these do not add up"
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


def print_plan(plan: Plan, sample: SampleConfig) -> None:
    """Show what a run would do."""
    table = Table("split", "shards", "assets", title="Plan")
    for split in dict.fromkeys(shard.split for shard in plan.shards):
        shards = [shard for shard in plan.shards if shard.split == split]
        table.add_row(split, str(len(shards)), str(sum(len(shard.assets) for shard in shards)))
    console = Console(markup=False)
    console.print(table)
    reasons = Counter(why.reason for why in plan.left_out.values())
    duplicates = reasons.pop(ReasonCode.DUPLICATE, 0)
    console.print(f"{duplicates} duplicates would be filtered")
    for reason, number in sorted(reasons.items()):
        what = "excluded as" if reason.state is AssetState.FILTERED else "not to be had:"
        console.print(f"{number} {what} {reason} would be {reason.state}")
    console.print("every sample: " + ", ".join(f"{name} {value}" for name, value in _shown(sample)))


def _shown(sample: SampleConfig) -> list[tuple[str, Any]]:
    """Settings that say something: a bound that is off does not."""
    return [(name, value) for name, value in flat_settings(sample.to_json()).items() if value not in (None, "")]


def print_summary(summary: Summary, config: CurateConfig) -> None:
    """Show what came of a run, and where it is."""
    console = Console(markup=False)
    table = Table("end", "assets", title=f"{summary.assets} assets")
    for name, number in summary.counts.items():
        table.add_row(name, str(number))
    table.add_section()
    table.add_row("sum", str(sum(summary.counts.values())))
    console.print(table)
    shards = ", ".join(f"{number} {split}" for split, number in summary.shards.items()) or "no"
    console.print(f"{summary.samples} samples in {shards} shards, {summary.bytes / 1e6:.1f} MB, in {summary.wall_s} s")
    if summary.ended:
        console.print(
            f"{summary.assets_per_hour:.0f} assets per hour with {summary.workers} workers, "
            f"in stages {summary.utilization:.0%} of their time"
        )
    total_s = sum(summary.timings_s.values()) or 1.0
    stages = [f"{name} {seconds} ({seconds / total_s:.0%})" for name, seconds in summary.timings_s.items()]
    console.print("seconds by stage: " + ", ".join(stages))
    console.print(f"largest worker: {summary.peak_bytes / 1e9:.2f} GB")
    console.print("every sample: " + ", ".join(f"{name} {value}" for name, value in _shown(config.sample)))
    # Paths go out plain and last: rich would wrap them, and people copy them.
    where = config.remote or config.output
    for name in ("ledger.jsonl", SUMMARY_FILE, "contact_sheet.webp", "report/index.html"):
        if (config.output / name).exists():
            what = name.split("/")[0].split(".")[0].replace("_", " ")
            console.out(f"{what}: {where}/{name}", highlight=False)


def write_contact_sheet(path: Path, plan: Plan, output: Place) -> None:
    """A row for each of the first samples of an output, a folder or URL; no file where nothing was rendered."""
    rows, labels = first_view_rows(ShardReader(file_in(output, f"{shard.name}.tar")) for shard in plan.shards)
    if rows:
        write_bytes(path, sheet_bytes(contact_sheet(rows, labels)))


def first_view_rows(readers: Iterable[ShardReader]) -> tuple[list[list[np.ndarray]], list[list[str]]]:
    """Frames of the first view of the first samples that were rendered, and a label for each."""
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
    """(size, size, 4) uint8 of an encoded image.

    Raises:
        FormatError: if it does not decode.
    """
    try:
        image = Image.open(io.BytesIO(webp)).convert("RGBA")
    except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
        raise FormatError(f"a damaged image ({error}): see `helix4d verify`") from error
    return np.asarray(image.resize((size, size), Image.Resampling.LANCZOS))


def sheet_bytes(sheet: np.ndarray) -> bytes:
    """A contact sheet, (H, W, 3) uint8, as WebP."""
    stream = io.BytesIO()
    Image.fromarray(sheet).save(stream, "WEBP", quality=90)
    return stream.getvalue()
