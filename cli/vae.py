"""`helix4d vae`: train the small world's VAEs."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from helix4d.core import Helix4DError, setup_logging


@dataclass(frozen=True)
class Vae:
    """Train the small world's three VAEs on curation shards, and write a random image encoder beside them."""

    config: Path
    """YAML file, such as configs/tiny/vae.yaml."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Changes, such as --set shards=DIR --set output=DIR."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.core.settings import read_settings
    from helix4d.train.small_world.vae import VaeConfig, train_vaes

    setup_logging()
    args = tyro.cli(Vae, prog="helix4d vae", args=arguments)
    try:
        train_vaes(read_settings(VaeConfig, args.config, args.set))
    except Helix4DError as error:
        logging.getLogger("helix4d.train").error("%s", error)
        return 2
    return 0
