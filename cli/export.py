"""`helix4d export`: writes a run's network as a checkpoint in TRELLIS.2's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Export:
    """Export a trained stage as a checkpoint in TRELLIS.2's layout, for `helix4d sample`.

    The network's 4D settings go into its configuration file. Export all three stages into the same folder:

        helix4d export --run runs/structure --output model
    """

    run: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder of the training run, such as runs/structure."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for pipeline.json and ckpts/. Other stages that it holds are kept."""
    raw: bool = False
    """Export the trained weights instead of their exponential moving average."""
    step: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: the last one)")] = None
    """Training step of the checkpoint to export."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.train.export import export_run

    args = tyro.cli(Export, prog="helix4d export", args=arguments)
    name = export_run(args.run, args.output, ema=not args.raw, step=args.step)
    print(f"{args.output}: ckpts/{name}")
    return 0
