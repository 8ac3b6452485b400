"""Reads the facts that the published descriptions state about a dataset from its index."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from helix4d.curation.index.table import index_file, read_index
from helix4d.curation.places.folder import Folder
from helix4d.curation.shards.layout import SPLITS


@dataclass(frozen=True)
class Facts:
    """A dataset in numbers.

    Attributes:
        samples: split -> number of samples, of splits that have any.
        bytes: size of all samples.
        licenses: `cc0`, `by`, ...; "" if unknown -> number of samples, the most frequent first.
        members: suffixes of the members that any sample has, sorted.
    """

    samples: dict[str, int]
    bytes: int
    licenses: dict[str, int]
    members: tuple[str, ...]


def collect_facts(folder: Folder) -> Facts:
    """Collect the facts of an output.

    Raises:
        FormatError: if the index is damaged.
        StoreError: if a URL cannot be read.
    """
    samples: Counter[str] = Counter()
    licenses: Counter[str] = Counter()
    members: set[str] = set()
    size = 0
    for split, row in rows_of(folder):
        samples[split] += 1
        licenses[row["license"]] += 1
        members.update(member["name"] for member in row["members"])
        size += row["bytes"]
    ordered = dict(sorted(licenses.items(), key=lambda item: (-item[1], item[0])))
    return Facts(dict(samples), size, ordered, tuple(sorted(members)))


def rows_of(folder: Folder) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield the split and the row of every sample.

    Raises:
        FormatError, StoreError: as `collect_facts`.
    """
    for split in SPLITS:
        try:
            for row in read_index(folder, index_file(split)):
                yield split, row
        except FileNotFoundError:  # a split without samples
            continue
