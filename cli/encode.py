"""`helix4d encode`: turns curation shards into latent shards."""

from __future__ import annotations

import tyro

from helix4d.train.latents.encode import EncodeConfig, encode


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    config = tyro.cli(tyro.conf.OmitArgPrefixes[EncodeConfig], prog="helix4d encode", args=arguments)
    encode(config)
    return 0
