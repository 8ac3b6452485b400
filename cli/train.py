"""`helix4d train`: the same as `python -m train`."""

from __future__ import annotations

from train.command import main


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    return main(arguments, program="helix4d train")
