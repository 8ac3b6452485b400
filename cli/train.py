"""`helix4d train`: the same command as `python -m helix4d.train`."""

from __future__ import annotations

from helix4d.train.command import main


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    return main(arguments, program="helix4d train")
