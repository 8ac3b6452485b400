"""`helix4d discard`: what `helix4d verify` found broken at a URL, taken out."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from typing import Annotated

import tyro

from helix4d.core import Helix4DError
from helix4d.curation.shards.discard import discard


@dataclass(frozen=True)
class Discard:
    """Remove files and ledger lines from an output at a URL, so that the next `helix4d curate` makes them again.

    `helix4d verify URL` prints the commands that are needed. Not while a run is writing there.
    """

    output: Annotated[str, tyro.conf.Positional]
    """URL that `helix4d curate` wrote to."""
    files: Annotated[tuple[str, ...], tyro.conf.Positional] = ()
    """Files of the output, by their names in it."""
    assets: tuple[str, ...] = ()
    """Assets whose ledger lines are removed."""
    lines: tuple[int, ...] = ()
    """Numbers of ledger lines to remove."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Discard, prog="helix4d discard", args=arguments)
    try:
        discard(config.output.rstrip("/"), config.files, config.assets, config.lines)
    except Helix4DError as error:
        print(f"helix4d discard: {error}", file=sys.stderr)
        return 2
    return 0
