"""Checks the index against shards without problems: every sample must have one row, with the same values.

Rows are compared instead of bytes, which depend on the version of pyarrow.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from typing import Any

from helix4d.core import FormatError, NewerError
from helix4d.curation.index.rows import shard_rows
from helix4d.curation.index.table import index_file, read_index
from helix4d.curation.shards.layout import INDEX_FOLDER, SPLITS
from helix4d.curation.shards.problems import Problem
from helix4d.curation.verify.plan import Output


def check_index(output: Output) -> Iterator[Problem]:
    """Find everything that is wrong with the index of an output whose shards have no problems.

    Raises:
        SetupError: if pyarrow is not installed.
        StoreError: if a URL cannot be read.
    """
    expected = set()
    for split in SPLITS:
        shards = [name for name in output.shards if name.startswith(f"{split}/")]
        if any(output.sidecars[name].keys for name in shards):
            expected.add(index_file(split))
            yield from _check_split(output, index_file(split), shards)
    found = {name for name in output.names if name.startswith(f"{INDEX_FOLDER}/") and name.endswith(".parquet")}
    for name in sorted(found - expected):
        yield Problem(name, "", "no shard belongs to it", output.remedies.remove(name))


def _check_split(output: Output, name: str, shards: list[str]) -> Iterator[Problem]:
    resume = output.remedies.resume()
    expected = itertools.chain.from_iterable(shard_rows(output.place, shards))
    try:
        for key, what in _compare(read_index(output.folder, name), expected):
            yield Problem(name, key, what, resume)
    except FileNotFoundError:
        yield Problem(name, "", "missing: the last run did not finish, or helix4d 0.3 wrote the output", resume)
    except NewerError as error:
        yield Problem(name, "", str(error), output.remedies.update())
    except FormatError as error:
        yield Problem(name, "", f"cannot be compared with the shards: {error}", resume)


def _compare(stored: Iterator[dict[str, Any]], expected: Iterator[dict[str, Any]]) -> Iterator[tuple[str, str]]:
    """Yield key and problem. Both iterators are sorted by key, so only one row of each is in memory."""
    found = next(stored, None)
    for row in expected:
        while found is not None and (key := str(found.get("key"))) < row["key"]:
            yield key, "has a row, but is not in the shards"
            found = next(stored, None)
        if found is None or found.get("key") != row["key"]:
            yield row["key"], "has no row, but is in the shards"
            continue
        if found != row:
            different = sorted(name for name in row.keys() | found.keys() if found.get(name) != row.get(name))
            yield row["key"], f"differs from the shards in {', '.join(different)}"
        found = next(stored, None)
    for row in itertools.chain([found] if found else [], stored):
        yield str(row.get("key")), "has a row, but is not in the shards"
