"""`helix4d filter`: previews quality thresholds and writes the exclusion list for `helix4d curate --exclude`."""

from __future__ import annotations

import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError
from helix4d.core.terminal import printable_line
from helix4d.curation.config import RunConfig, SampleConfig
from helix4d.curation.filters.near_duplicates import check_similarity
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.plan.exclusions import write_exclusions
from helix4d.curation.report.filter_report import FilterReport, decide, report_lines
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger


@dataclass(frozen=True)
class Filter:
    """Show which clips a set of quality thresholds would keep, before or after curating.

    An output of `helix4d curate` is judged at once, from the measures in its ledger. A folder of assets is baked and
    measured first; nothing is rendered. The table has one row per filter: how many clips it keeps and drops on its
    own, how many it is the first to drop (these add up to the total), and the distribution of its measure.

    --write saves the assets of which no clip is kept as a list for `helix4d curate --exclude`. This is the only way
    to leave out near-duplicates. Either --dry-run or --write is required:

        helix4d filter shards --dry-run --min-visible 0.5 --licenses cc0,by
        helix4d filter assets --write exclude.json --near-duplicates 0.95
        helix4d curate --source assets --output shards --exclude exclude.json
    """

    path: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="PATH")]
    """Output of `helix4d curate`, a folder written by --measures, or assets (anything that --source accepts)."""
    filters: Annotated[FilterConfig, tyro.conf.arg(name="")] = field(default_factory=FilterConfig)
    near_duplicates: Annotated[
        float | None, tyro.conf.arg(metavar="FLOAT", help_behavior_hint="(default: off; 0.95 is a good start)")
    ] = None
    """Drop clips with at least this similarity, in shape and motion, to a clip that is kept."""
    dry_run: bool = False
    """Print the table and write nothing."""
    write: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """Write the list of excluded assets to this JSON file."""
    measures: Annotated[Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: not kept)")] = None
    """For a folder of assets: keep the measures in this folder, so that a later run continues from them."""
    show: int = 10
    """Maximum number of dropped clips to list."""
    frames: int = 16
    """For a folder of assets: frames sampled from each animation, as in `helix4d curate`."""
    clip: str = "most-moving"
    """For a folder of assets: animation to measure, as in `helix4d curate`."""
    limit: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: all)")] = None
    """For a folder of assets: use only the first N, by name."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: one per CPU)")] = None
    """For a folder of assets: number to measure at the same time."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(tyro.conf.OmitArgPrefixes[Filter], prog="helix4d filter", args=arguments)
    if config.dry_run == (config.write is not None):
        raise ConfigError("either --dry-run (print only) or --write FILE (save the exclusion list) is required")
    if config.filters.where:
        raise ConfigError("--where selects assets before they are read, so no ledger has them: pass it to curate")
    if config.near_duplicates is not None:
        check_similarity(config.near_duplicates)  # fail before measuring, which may take hours
    report = _decide(config)
    print("\n".join(map(printable_line, report_lines(report, config.show))))
    if config.write is not None:
        _write(config.write, report)
    return 0


def _decide(config: Filter) -> FilterReport:
    if (Path(config.path) / LEDGER_FILE).exists():
        return _read(config, Path(config.path))
    if config.measures is not None:
        return _measure(config, config.measures)
    with tempfile.TemporaryDirectory(prefix="helix4d-") as folder:
        return _measure(config, Path(folder))


def _measure(config: Filter, folder: Path) -> FilterReport:
    from helix4d.curation.work.measuring import measure_source  # imports Ray, so only where needed

    sample = SampleConfig(frames=config.frames, clip=config.clip)
    measure_source(config.path, folder, sample, RunConfig(workers=config.workers, limit=config.limit))
    return _read(config, folder)


def _read(config: Filter, folder: Path) -> FilterReport:
    outcomes = Ledger(folder / LEDGER_FILE).outcomes
    report = decide(outcomes.values(), config.filters, config.near_duplicates)
    if not report.decisions:
        raise ConfigError(
            f"{folder / LEDGER_FILE}: no clip of its {len(outcomes)} assets has measures (ledgers written before "
            "version 2 have none): pass the folder of assets instead"
        )
    return report


def _write(path: Path, report: FilterReport) -> None:
    excluded = report.excluded()
    settings = {**asdict(report.config), "near_duplicates": report.near_duplicate_least}
    write_exclusions(path, excluded, settings)
    print(f"excluded assets: {len(excluded)}, written to {path}")
