"""`helix4d inspect`: prints the contents of a shard or of one sample."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.curation.places.folder import is_far
from helix4d.curation.report.inspection import inspect_sample, inspect_shard


@dataclass(frozen=True)
class Inspect:
    """List the samples of a shard, or the contents of one sample, and write a contact sheet.

    Without a key, all samples of the shard are listed; with a key, one sample is described:

        helix4d inspect shards/train/helix4d-000000.tar
        helix4d inspect shards/train/helix4d-000000.tar 3d0c3b59afe1d35a_0
    """

    shard: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="SHARD")]
    """Path or URL of a shard's .tar file. From a URL, only the parts that are shown are downloaded."""
    key: Annotated[
        str | None, tyro.conf.Positional, tyro.conf.arg(metavar="[KEY]", help_behavior_hint="(default: all samples)")
    ] = None
    """Key of one sample."""
    sheet: Annotated[
        Path | None,
        tyro.conf.arg(
            metavar="FILE",
            help_behavior_hint="(default: NAME.sheet.webp beside the shard, or in the current folder for a URL)",
        ),
    ] = None
    """WebP file for the contact sheet."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Inspect, prog="helix4d inspect", args=arguments)
    found = inspect_shard(config.shard) if config.key is None else inspect_sample(config.shard, config.key)
    print(found.text)
    path = Path(config.shard)
    folder = Path() if is_far(config.shard) else path.parent
    sheet = config.sheet or folder / f"{config.key or path.stem}.sheet.webp"
    try:
        written = found.write_sheet(sheet)
    except OSError as error:
        print(f"helix4d inspect: {sheet}: cannot write ({error.strerror}): choose another --sheet", file=sys.stderr)
        return 2
    if written:
        print(f"contact sheet: {sheet}")
    return 0
