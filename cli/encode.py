"""`helix4d encode`: turns curation shards into latent shards."""

from __future__ import annotations

from helix4d.core.command_line import parse
from helix4d.train.latents.encode import EncodeConfig, encode


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    encode(parse(EncodeConfig, "helix4d encode", arguments))
    return 0
