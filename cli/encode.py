"""`helix4d encode`: curation shards to latent shards."""

from __future__ import annotations

import logging

import tyro

from core import Helix4DError, setup_logging
from train.encode import EncodeConfig, encode


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    setup_logging()
    config = tyro.cli(tyro.conf.OmitArgPrefixes[EncodeConfig], prog="helix4d encode", args=arguments)
    try:
        encode(config)
    except Helix4DError as error:
        logging.getLogger("train").error("%s", error)
        return 2
    return 0
