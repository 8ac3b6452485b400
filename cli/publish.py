"""`helix4d publish`: uploads an output to the model hub."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.curation.publish.upload import publish


@dataclass(frozen=True)
class Publish:
    """Upload an output of `helix4d curate` to a dataset repository on the model hub.

    Uploads the shards with their sidecars, the index, README.md, CREDITS.md, croissant.json and clip.schema.json, but
    not plan, ledger, summary and report, which contain paths of this machine. A new repository is private. Resumable:
    rerun the command after a crash and it continues where it stopped. Log in with `hf auth login` first.

        helix4d publish shards hf://datasets/OWNER/NAME
    """

    output: Annotated[Path, tyro.conf.Positional, tyro.conf.arg(metavar="OUTPUT")]
    """Folder written by `helix4d curate`."""
    repository: Annotated[str, tyro.conf.Positional, tyro.conf.arg(metavar="hf://datasets/OWNER/NAME")]
    """Repository, which is created if it does not exist."""
    public: bool = False
    """Make a new repository public. An existing one keeps its visibility."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    logging.getLogger("httpx2").setLevel(logging.WARNING)  # it logs every request of huggingface_hub
    config = tyro.cli(Publish, prog="helix4d publish", args=arguments)
    print(publish(config.output, config.repository, config.public))
    return 0
