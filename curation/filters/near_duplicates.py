"""Which clips repeat the shape of an earlier one, decided from their hashes alone, in the order of their keys.

That needs a pass over all measures before any shard is planned: a worker that sees one asset cannot know, and what it
knew would depend on the order in which assets end.
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
"""Below this the search could miss pairs: hashes that differ in fewer than 16 numbers share one of 16 bands whole."""


@dataclass(frozen=True)
class Repetition:
    """What a clip repeats: the index of an earlier clip that is kept, and how similar the two are."""

    of: int
    similarity: float


def near_duplicates(hashes: Sequence[str], least: float) -> dict[int, Repetition]:
    """Index of a clip -> the most similar of the kept clips before it, where that is at least `least` similar.

    A clip that is dropped drops no others, so a chain of ever so slightly changed ones is not dropped as a whole.

    Raises:
        ConfigError: for a similarity that the search cannot promise to find.
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
    """Raise ConfigError for a similarity that the search cannot promise to find."""
    if not LEAST_SIMILARITY <= least <= 1:
        raise ConfigError(f"--near-duplicates {least:g}: a similarity from {LEAST_SIMILARITY:.3f} to 1 is needed")
