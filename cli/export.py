"""`helix4d export`: writes a run's network as a checkpoint, or the samples of a dataset in another tool's layout."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import tyro

from helix4d.curation.places.folder import place_of


@dataclass(frozen=True)
class Export:
    """Export a trained stage as a checkpoint in TRELLIS.2's layout, for `helix4d sample`.

    The network's 4D settings go into its configuration file. Export all three stages into the same folder:

        helix4d export --run runs/structure --output model

    With `--layout`, the command exports a dataset instead: `helix4d export --layout actionbench --help`.
    """

    run: Annotated[str, tyro.conf.arg(metavar="DIR")]
    """Folder or URL of the training run, such as runs/structure."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for pipeline.json and ckpts/. Other stages in it are kept."""
    raw: bool = False
    """Export the trained weights instead of their exponential moving average."""
    step: Annotated[int | None, tyro.conf.arg(metavar="N", help_behavior_hint="(default: the last one)")] = None
    """Training step of the checkpoint to export."""


@dataclass(frozen=True)
class ExportData:
    """Write the samples of a dataset in the layout of another tool, using only its shards.

    actionbench: data/KEY/surfaces.npy, the tracked points with normals, and the frames of a video as PNG, which
    ActionBench's evaluation and `helix4d evaluate --bench actionbench` read. Requires shards that were curated with
    --tracks and views. Rerun the command to continue where it stopped.

        helix4d curate --source assets --output shards --tracks 8192 --fixed-views front
        helix4d export shards --layout actionbench --output bench
    """

    source: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SHARDS")]
    """Folder or URL written by `helix4d curate`."""
    layout: Literal["actionbench"]
    """Layout to write."""
    output: Annotated[Path, tyro.conf.arg(metavar="DIR")]
    """Folder for the files."""
    split: Literal["train", "val", "test"] = "test"
    """Split to export."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    if any(argument.partition("=")[0] == "--layout" for argument in arguments):
        return _export_data(tyro.cli(ExportData, prog="helix4d export", args=arguments))
    from helix4d.train.export import export_run

    args = tyro.cli(Export, prog="helix4d export", args=arguments)
    name = export_run(place_of(args.run), args.output, ema=not args.raw, step=args.step)
    print(f"{args.output}: ckpts/{name}")
    return 0


def _export_data(args: ExportData) -> int:
    from helix4d.curation.layouts.actionbench import export_actionbench

    written = 0
    for sample in export_actionbench(place_of(args.source), args.output, args.split):
        if sample.left_out:
            print(f"{sample.key} left out: {sample.left_out}")
        else:
            written += 1
            print(f"{sample.key} written")
    print(f"{args.output}: {written} samples in ActionBench's layout")
    return 0
