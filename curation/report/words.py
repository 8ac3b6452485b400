"""Wording shared by reports, summaries and messages."""

from __future__ import annotations

from collections.abc import Mapping


def counted(number: int, noun: str) -> str:
    """`1 sample`, `1,200 samples`: a count with its noun, whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def size_of(number: float) -> str:
    """`631 kB`, `1.25 GB`: bytes in decimal units."""
    for unit, factor in (("TB", 1e12), ("GB", 1e9), ("MB", 1e6), ("kB", 1e3)):
        if number >= factor:
            return f"{number / factor:.3g} {unit}"
    return f"{number:.0f} bytes"


def duration(seconds: float) -> str:
    """`54.5 s`, `12.3 min`, `1,204.0 h`."""
    if seconds < 90:
        return f"{seconds:.1f} s"
    if seconds < 5400:
        return f"{seconds / 60:.1f} min"
    return f"{seconds / 3600:,.1f} h"


def without_measures(counts: Mapping[str, int], noun: str) -> list[str]:
    """`7 clips, measured by an older version, without flicker, faces`: one text for each number of clips.

    Args:
        counts: measure -> clips without it.
        noun: what is counted, in the singular.
    """
    return [
        f"{counted(number, noun)}, measured by an older version, without "
        + ", ".join(name for name, own in counts.items() if own == number)
        for number in sorted(set(counts.values()), reverse=True)
    ]
