"""`helix4d discard`: removes broken files and ledger lines from an output at a URL."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated

import tyro

from helix4d.curation.shards.discard import discard


@dataclass(frozen=True)
class Discard:
    """Remove files and ledger lines from an output at a URL, so that the next `helix4d curate` rebuilds them.

    `helix4d verify URL` prints the exact commands to run. Do not use this while a run is writing to the URL. For an
    output in a local folder, use `rm` and `sed` instead; `helix4d verify` prints those as well.
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="URL")]
    """Output of `helix4d curate`."""
    files: Annotated[
        tuple[str, ...], tyro.conf.Positional, tyro.conf.arg(metavar="[FILE ...]", help_behavior_hint="(optional)")
    ] = ()
    """Files to remove, relative to the URL, such as train/helix4d-000000.json."""
    assets: Annotated[tuple[str, ...], tyro.conf.arg(metavar="NAME ...", help_behavior_hint="(optional)")] = ()
    """Assets whose ledger lines are removed."""
    lines: Annotated[tuple[int, ...], tyro.conf.arg(metavar="N ...", help_behavior_hint="(optional)")] = ()
    """Ledger lines to remove, by number, counted from 1."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Discard, prog="helix4d discard", args=arguments)
    discard(config.output.rstrip("/"), config.files, config.assets, config.lines)
    return 0
