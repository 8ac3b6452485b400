"""Finds clips that repeat the shape of an earlier one, from their hashes alone, in the order of their keys.

This needs all measures before any shard is planned: a worker sees a single asset, and a decision made on the way would
depend on the order in which assets finish.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from helix4d.core import ConfigError
from helix4d.curation.filters.geometry_hash import NUMBERS, hash_table

_BANDS = 16
_BAND = NUMBERS // _BANDS
LEAST_SIMILARITY = 1 - (_BANDS - 1) / NUMBERS
"""Smallest similarity at which the search is exact: two hashes with fewer than 16 differences share one of 16 bands."""


@dataclass(frozen=True)
class Repetition:
    """An earlier, kept clip that a clip repeats.

    Attributes:
        earlier: index of that clip.
        similarity: similarity of the two, from 0 to 1.
    """

    earlier: int
    similarity: float


def near_duplicates(hashes: Sequence[str], least: float) -> dict[int, Repetition]:
    """Map each near-duplicate to the most similar kept clip before it, where the similarity is at least `least`.

    Only kept clips are compared with, so a chain of slightly different clips is not dropped as a whole.

    Raises:
        ConfigError: if `least` is too low for an exact search.
    """
    check_similarity(least)
    table = hash_table(list(hashes))
    buckets: dict[tuple[int, bytes], list[int]] = {}
    found: dict[int, Repetition] = {}
    for number, row in enumerate(table):
        bands = [(band, row[band * _BAND : (band + 1) * _BAND].tobytes()) for band in range(_BANDS)]
        candidates = sorted({earlier for band in bands for earlier in buckets.get(band, ())})
        if candidates:
            similar = (table[candidates] == row).mean(axis=1)
            best = int(np.argmax(similar))  # the first of equals
            if similar[best] >= least:
                found[number] = Repetition(candidates[best], float(similar[best]))
                continue
        for band in bands:
            buckets.setdefault(band, []).append(number)
    return found


def check_similarity(least: float) -> None:
    """Raise ConfigError if a similarity is out of range: too low for an exact search, or above 1."""
    if not LEAST_SIMILARITY <= least <= 1:
        raise ConfigError(f"--near-duplicates {least:g}: must be between {LEAST_SIMILARITY:.3f} and 1")
