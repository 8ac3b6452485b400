"""Command line of a training run, shared by `python -m helix4d.train` (for torchrun) and `helix4d train`."""

from __future__ import annotations

import logging
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from helix4d.core import Helix4DError, setup_logging
from helix4d.core.command_line import parse
from helix4d.core.options import Option
from helix4d.train.config import read_config
from helix4d.train.loop import train
from helix4d.train.plan import plan_run

log = logging.getLogger("helix4d.train")


@dataclass(frozen=True)
class Train:
    """Train one stage, resuming from the run's last checkpoint if there is one."""

    config: Path
    """YAML file, such as configs/geometry.yaml."""
    set: Annotated[tuple[str, ...], Option(append=True)] = ()
    """Override a setting, such as --set data.latents=DIR --set optimizer.lr=1e-4."""
    change: Annotated[tuple[str, ...], Option(append=True)] = ()
    """Like --set, but a resumed run may differ in this setting, such as --change optimizer.lr=1e-5. Checkpoints record
    the change."""
    allow_partial: bool = False
    """Train without the clips of missing shards (data.allow_partial)."""
    dry_run: bool = False
    """Print shapes, parameter counts, steps per epoch and peak memory, then exit."""


def main(arguments: list[str] | None = None, program: str = "python -m helix4d.train") -> int:
    """Run the command and return the exit status."""
    setup_logging()
    args = parse(Train, program, arguments)
    try:
        partial = ("data.allow_partial=true",) if args.allow_partial else ()
        config = read_config(args.config, (*args.set, *args.change, *partial))
        if args.dry_run:
            sys.stdout.write(plan_run(config))
        else:
            train(config, [change.partition("=")[0] for change in args.change])
    except Helix4DError as error:
        log.error("%s", error)
        return 2
    return 0
