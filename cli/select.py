"""`helix4d select`: selects samples of an output by its index."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.curation.index.subset import select
from helix4d.curation.places.folder import place_of
from helix4d.curation.report.words import counted


@dataclass(frozen=True)
class Select:
    """Select samples by the index of an output, without opening a shard, and write their keys.

    `helix4d encode --subset` and the setting `data.subset` of `helix4d train` accept the file. The condition has the
    syntax of `helix4d curate --where`, and its columns are those of index/*.parquet (docs/publishing.md):

        helix4d select shards --where "license in ('cc0', 'by') and max_tokens < 4096" --write subset.json
    """

    output: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder or URL written by `helix4d curate`. From a URL, only the index is downloaded."""
    where: str
    """Condition, such as "measures.motion > 0.1 and metadata.tags contains 'animal'"."""
    write: Annotated[Path | None, tyro.conf.arg(metavar="FILE", help_behavior_hint="(optional)")] = None
    """File to write the keys to."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(Select, prog="helix4d select", args=arguments)
    subset, samples = select(place_of(config.output), config.where)
    print(f"{config.output}: {len(subset.keys):,} of {counted(samples, 'sample')} selected")
    if config.write is not None:
        subset.write(config.write)
        print(config.write)
    return 0
