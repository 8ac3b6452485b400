"""`helix4d inspect`: what a shard or one of its samples holds."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import Helix4DError
from helix4d.curation.places.folder import is_far
from helix4d.curation.report.inspection import Inspection, inspect_sample, inspect_shard


@dataclass(frozen=True)
class Inspect:
    """Print what a shard holds, or what one sample holds, and write a contact sheet of it."""

    shard: Annotated[str, tyro.conf.Positional]
    """The shard's .tar file, a path or a URL; of a far one only what is shown is moved."""
    key: Annotated[str | None, tyro.conf.Positional] = None
    """A sample's key; without it, the whole shard."""
    sheet: Path | None = None
    """Where the contact sheet goes. Default: beside the shard (here for a URL), named after the shard or the key."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Inspect, prog="helix4d inspect", args=arguments)
    try:
        found: Inspection = (
            inspect_shard(config.shard) if config.key is None else inspect_sample(config.shard, config.key)
        )
    except Helix4DError as error:
        print(f"helix4d inspect: {error}", file=sys.stderr)
        return 2
    print(found.text)
    path = Path(config.shard)
    folder = Path() if is_far(config.shard) else path.parent
    sheet = config.sheet or folder / f"{config.key or path.stem}.sheet.webp"
    try:
        written = found.write_sheet(sheet)
    except OSError as error:
        print(f"helix4d inspect: {sheet}: cannot be written ({error.strerror}): give --sheet FILE", file=sys.stderr)
        return 2
    if written:
        print(f"contact sheet: {sheet}")
    return 0
