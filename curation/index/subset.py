"""Selects samples by the index: a subset is a file of keys that `helix4d encode` and `helix4d train` accept."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from helix4d.core import ConfigError, FormatError, Schema, write_json
from helix4d.core.documents import parse_document, parse_json
from helix4d.core.names import check_key
from helix4d.curation.filters.expression import parse_expression
from helix4d.curation.index.table import index_files, read_index
from helix4d.curation.places.folder import Place

SUBSET = Schema("subset", version=1, oldest=1, rewrite="rerun `helix4d select`")
_FREE = ("metadata", "extras", "other")
"""Columns that hold JSON."""


@dataclass(frozen=True)
class Subset:
    """Samples of an output.

    Attributes:
        where: condition that selected them.
        keys: their keys, sorted.
    """

    where: str
    keys: tuple[str, ...]

    def write(self, path: Path) -> None:
        """Write the file."""
        write_json(path, {"version": SUBSET.version, "where": self.where, "keys": list(self.keys)})


def select(place: Place, where: str) -> tuple[Subset, int]:
    """Select samples of an output by its index, without opening a shard. Returns them and the number of all samples.

    Args:
        place: folder or URL written by `helix4d curate`.
        where: condition on the columns of the index, in the syntax of `filters/expression.py`. JSON columns are parsed,
            so `metadata.aesthetic_score >= 5` works, and fields of `clip.json` in the column `other` are columns too.

    Raises:
        ConfigError: if the condition is invalid, names a column that no sample has, or there is no index.
        FormatError: if the index is damaged.
        StoreError: if a URL cannot be read.
    """
    expression = parse_expression(where)
    unknown = {column.split(".")[0]: column for column in expression.columns}
    folder, names = index_files(place)
    keys: list[str] = []
    found: set[str] = set()
    samples = 0
    for name in names:
        for stored in read_index(folder, name, without=["members"]):
            row = _searchable(stored, folder.address(name))
            samples += 1
            found.update(row)
            for column in row.keys() & unknown.keys():
                del unknown[column]
            if expression.matches(row):
                keys.append(check_key(row["key"], folder.address(name)))
    if unknown and samples:
        missing, columns = (", ".join(sorted(names)) for names in (unknown, found))
        raise ConfigError(f"--where: no column {missing}: the columns are {columns}")
    return Subset(where, tuple(sorted(keys))), samples


def read_subset(path: Path) -> frozenset[str]:
    """Read the keys of a subset.

    Raises:
        ConfigError: if there is no such file, or it selects nothing.
        FormatError: if it is damaged.
    """
    try:
        content = parse_document(path.read_bytes(), SUBSET, path)
    except FileNotFoundError as error:
        raise ConfigError(f"{path}: no such file: write it with `helix4d select`") from error
    keys = content.get("keys")
    if not isinstance(keys, list):
        raise FormatError(f"{path}: keys is not a list")
    if not keys:
        raise ConfigError(f"{path}: selects no sample: rerun `helix4d select` with another condition")
    return frozenset(check_key(key, path) for key in keys)


def _searchable(stored: Mapping[str, Any], where: str) -> dict[str, Any]:
    free = {}
    for name in _FREE:
        value = parse_json(stored[name], f"{where}: {name}", "index")
        if not isinstance(value, Mapping):
            raise FormatError(f"{where}: {name} of {stored['key']} is not a JSON object")
        free[name] = value
    other = {name: value for name, value in free.pop("other").items() if name != "measures"}
    return {**other, **{name: value for name, value in stored.items() if name not in _FREE}, **free}
