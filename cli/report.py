"""`helix4d report`: writes the report page and the data card of an output."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.curation.places.folder import place_of
from helix4d.curation.report.page import write_report


@dataclass(frozen=True)
class Report:
    """Write report/index.html and report/datacard.md for an output of `helix4d curate`, finished or not.

    The page works offline, and its folder can be shared: counts, reasons, licenses, distributions, throughput, and an
    animated contact sheet of the samples. Existing pictures are reused. `helix4d curate` writes the same report when
    it finishes, with pictures of the first 64 samples.
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder or URL written by `helix4d curate`. From a URL, only the parts that are shown are downloaded."""
    folder: Annotated[
        Path | None, tyro.conf.arg(metavar="DIR", help_behavior_hint="(default: OUTPUT/report; required for a URL)")
    ] = None
    """Folder for the report."""
    assets: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: 1000; 64 for a URL)")] = None
    """Maximum number of samples with pictures. Counts and statistics always cover everything."""
    workers: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: one per CPU)")] = None
    """Processes that render the pictures."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Report, prog="helix4d report", args=arguments)
    print(write_report(place_of(config.output), config.assets, config.workers, config.folder))
    return 0
