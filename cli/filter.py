"""`helix4d filter`: what thresholds would keep, and the list of assets that `helix4d curate --exclude` leaves out."""

from __future__ import annotations

import logging
import tempfile
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import ConfigError, Helix4DError, setup_logging
from helix4d.curation.config import RunConfig, SampleConfig
from helix4d.curation.filters.near_duplicates import check_similarity
from helix4d.curation.filters.thresholds import FilterConfig
from helix4d.curation.plan.exclusions import write_exclusions
from helix4d.curation.report.filter_report import FilterReport, decide, report_lines
from helix4d.curation.shards.layout import LEDGER_FILE
from helix4d.curation.shards.ledger import Ledger


@dataclass(frozen=True)
class Filter:
    """Show what thresholds would keep of an output of `helix4d curate`, or of a folder of assets.

    An output is judged by the measures in its ledger, at once. Assets are baked and measured first, nothing is
    rendered. Each filter has a row: what it keeps and drops by itself, what it drops first (these add up), quantiles
    and a histogram of its measure.

    With --write the assets that no clip is kept of become a list for `helix4d curate --exclude`. Near-duplicates can
    only be left out this way.
    """

    path: Annotated[str, tyro.conf.Positional]
    """An output of `helix4d curate`, a folder that --measures made, or assets: what `helix4d curate --source` takes."""
    filters: Annotated[FilterConfig, tyro.conf.arg(name="")] = field(default_factory=FilterConfig)
    near_duplicates: float | None = None
    """Drop clips whose shape and motion are this similar, or more, to those of an earlier one; 0.95 is a good start."""
    dry_run: bool = False
    """Only show; writes nothing."""
    write: Path | None = None
    """The list of excluded assets (JSON)."""
    measures: Path | None = None
    """Folder that keeps the measures of a folder of assets: goes on where it stopped. Default: they are forgotten."""
    show: int = 10
    """Dropped clips to name, at most."""
    frames: int = 16
    """As in `helix4d curate`, for a folder of assets."""
    clip: str = "most-moving"
    """As in `helix4d curate`, for a folder of assets."""
    limit: int | None = None
    """Only the first N assets of the folder, by name."""
    workers: int | None = None
    """Assets measured at the same time. Default: as many as the CPUs allow."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(tyro.conf.OmitArgPrefixes[Filter], prog="helix4d filter", args=arguments)
    setup_logging()
    try:
        if config.dry_run == (config.write is not None):
            raise ConfigError("give --dry-run to look, or --write FILE for the list of excluded assets")
        if config.near_duplicates is not None:
            check_similarity(config.near_duplicates)  # better refused here than after everything is measured
        report = _decide(config)
        print("\n".join(report_lines(report, config.show)))
        if config.write is not None:
            _write(config.write, report)
    except Helix4DError as error:
        logging.getLogger("helix4d.curation").error("%s", error)
        return 2
    return 0


def _decide(config: Filter) -> FilterReport:
    if (Path(config.path) / LEDGER_FILE).exists():
        return _read(config, Path(config.path))
    if config.measures is not None:
        return _measure(config, config.measures)
    with tempfile.TemporaryDirectory(prefix="helix4d-") as folder:
        return _measure(config, Path(folder))


def _measure(config: Filter, folder: Path) -> FilterReport:
    from helix4d.curation.work.measuring import measure_source  # starts Ray, so only when it is needed

    sample = SampleConfig(frames=config.frames, clip=config.clip)
    measure_source(config.path, folder, sample, RunConfig(workers=config.workers, limit=config.limit))
    return _read(config, folder)


def _read(config: Filter, folder: Path) -> FilterReport:
    outcomes = Ledger(folder / LEDGER_FILE).outcomes
    report = decide(outcomes.values(), config.filters, config.near_duplicates)
    if not report.decisions:
        raise ConfigError(
            f"{folder / LEDGER_FILE}: no measures of any clip among {len(outcomes)} assets; ledgers of before the "
            "filters have none: give the folder of assets instead"
        )
    return report


def _write(path: Path, report: FilterReport) -> None:
    excluded = report.excluded()
    settings = {**asdict(report.config), "near_duplicates": report.near_duplicate_least}
    write_exclusions(path, excluded, settings)
    print(f"{len(excluded)} excluded assets: {path}")
