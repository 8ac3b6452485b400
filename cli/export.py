"""`helix4d export`: a run's network as a checkpoint in TRELLIS.2's layout."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import tyro

from helix4d.core import Helix4DError, setup_logging


@dataclass(frozen=True)
class Export:
    """Write a run's network in TRELLIS.2's checkpoint layout, its 4D settings in its configuration."""

    run: Path
    """The run's folder."""
    output: Path
    """Folder for pipeline.json and ckpts/; other stages already there are kept."""
    raw: bool = False
    """The trained weights instead of their average."""
    step: int | None = None
    """Which checkpoint; by default the last."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.train.export import export_run

    setup_logging()
    args = tyro.cli(Export, prog="helix4d export", args=arguments)
    try:
        name = export_run(args.run, args.output, ema=not args.raw, step=args.step)
    except Helix4DError as error:
        logging.getLogger("helix4d.train").error("%s", error)
        return 2
    print(f"{args.output}: ckpts/{name}")
    return 0
