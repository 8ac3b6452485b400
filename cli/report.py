"""`helix4d report`: an output as a page that works offline, and its data card."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import Helix4DError, setup_logging
from helix4d.curation.places.folder import place_of
from helix4d.curation.report.page import write_report


@dataclass(frozen=True)
class Report:
    """Write report/index.html and report/datacard.md of an output of `helix4d curate`, finished or not.

    The page works offline and can be sent to others with its folder: counts, reasons, licenses, distributions,
    throughput, and a contact sheet that plays. Pictures that are there are not made again. `helix4d curate` writes it
    at its end, with fewer pictures.
    """

    output: Annotated[str, tyro.conf.Positional]
    """Folder that `helix4d curate` wrote, or a URL: of a far output only what is shown is moved."""
    folder: Path | None = None
    """Where the report goes. Default: report in the output; a URL needs one."""
    assets: int | None = None
    """Samples with pictures, at most; all numbers are over everything. Default: 1000, of a URL 64."""
    workers: int | None = None
    """Processes that make pictures. Default: one a core."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Report, prog="helix4d report", args=arguments)
    setup_logging()
    try:
        print(write_report(place_of(config.output), config.assets, config.workers, config.folder))
    except Helix4DError as error:
        logging.getLogger("helix4d.curation").error("%s", error)
        return 2
    return 0
