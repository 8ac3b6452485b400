"""`helix4d vae`: trains tiny VAEs, so that the whole model runs on a CPU."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro


@dataclass(frozen=True)
class Vae:
    """Train three tiny VAEs on curation shards, and write a random image encoder beside them.

    They stand in for TRELLIS.2's checkpoints in `make tiny`, which runs the whole model on a CPU.
    """

    config: Path
    """YAML file, e.g. configs/tiny/vae.yaml."""
    set: Annotated[tuple[str, ...], tyro.conf.UseAppendAction] = ()
    """Override a value of the configuration, e.g. --set shards=DIR --set output=DIR."""


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    from helix4d.core.settings import read_settings
    from helix4d.train.small_world.vae import VaeConfig, train_vaes

    args = tyro.cli(Vae, prog="helix4d vae", args=arguments)
    train_vaes(read_settings(VaeConfig, args.config, args.set))
    return 0
