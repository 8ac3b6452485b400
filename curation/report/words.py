"""Wording shared by the texts that people read."""

from __future__ import annotations


def counted(number: int, noun: str) -> str:
    """`1 sample`, `1,200 samples`: a count with its noun, whose plural ends in s."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"
