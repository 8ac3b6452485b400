"""`helix4d encode`: curation shards to latent shards."""

from __future__ import annotations

import logging

import tyro

from helix4d.core import Helix4DError, setup_logging
from helix4d.train.latents.encode import EncodeConfig, encode


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    setup_logging()
    config = tyro.cli(tyro.conf.OmitArgPrefixes[EncodeConfig], prog="helix4d encode", args=arguments)
    try:
        encode(config)
    except Helix4DError as error:
        logging.getLogger("helix4d.train").error("%s", error)
        return 2
    return 0
