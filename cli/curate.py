"""`helix4d curate`: the same command as `python curation/pipeline.py`."""

from __future__ import annotations

from helix4d.curation.pipeline import main


def run(arguments: list[str]) -> int:
    """Run the command; returns the exit status."""
    return main(arguments, program="helix4d curate")
