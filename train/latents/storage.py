"""Shards in a folder, or at any URL that fsspec opens, read one byte range per member."""

from __future__ import annotations

import logging
import re
from collections.abc import Collection, Iterable

from helix4d.core import ConfigError, FormatError, Schema
from helix4d.core.documents import parse_document
from helix4d.core.names import check_relative
from helix4d.curation.places.folder import file_in, folder_at, place_of
from helix4d.curation.places.store import StoreError
from helix4d.curation.plan.plan_file import read_plan
from helix4d.curation.shards.reader import ShardReader

log = logging.getLogger("helix4d.train")

INDEX_FILE = "index.json"
_LISTED = 20
INDEX = Schema("list of latent shards", version=1, oldest=1, rewrite="rerun `helix4d encode`")


def open_shard(root: str, name: str) -> ShardReader:
    """Open a shard, such as `train/helix4d-000000.tar`, under a folder or URL."""
    return ShardReader(file_in(place_of(root), name))


def read_file(root: str, name: str) -> bytes:
    """Content of a small file under a folder or URL."""
    return folder_at(place_of(root)).read(name)


def list_shards(root: str, split: str) -> list[str]:
    """Names of the shards of one split, from the `index.json` of a folder of latent shards.

    Raises:
        ConfigError: if there is no such file.
        FormatError: if it is damaged, or names a file outside the folder.
    """
    where = f"{root.rstrip('/')}/{INDEX_FILE}"
    try:
        index = parse_document(read_file(root, INDEX_FILE), INDEX, where)
    except FileNotFoundError as error:
        raise ConfigError(
            f"{root}: has no {INDEX_FILE}: not an output of `helix4d encode`, or an unfinished one"
        ) from error
    shards = index.get("shards")
    if not isinstance(shards, list):
        raise FormatError(f"{where}: shards is not a list")
    return [name for name in shards if check_relative(name, where).startswith(f"{split}/")]


def missing_shards(root: str, names: Collection[str]) -> list[str]:
    """Return those of the shards that lack their tar or its sidecar, sorted.

    Empty if the server cannot list folders: missing shards are then detected when they are read.
    """
    try:
        found = {name for split in sorted({name.split("/")[0] for name in names}) for name in _names(root, split)}
    except StoreError as error:
        log.warning("%s: cannot be listed (%s): missing shards will be detected only when they are read", root, error)
        return []
    return sorted(name for name in names if not {name, f"{name.removesuffix('.tar')}.json"} <= found)


def planned_shards(root: str, names: Iterable[str]) -> list[str]:
    """Return the shards that an output of `helix4d curate` should have, sorted.

    Args:
        root: folder or URL of the output.
        names: names of its known shards, with their suffix.

    Returns:
        The shards of `plan.json`. Without a plan: the known ones, and those missing in the sequence of their numbers.
    """
    plan = read_plan(place_of(root))
    if plan is not None:
        return sorted(f"{shard.name}.tar" for shard in plan.plan().shards)
    expected = set(names)
    for name in names:
        if match := re.fullmatch(r"(.*-)(\d{6})\.tar", name):
            expected |= {f"{match[1]}{number:06d}.tar" for number in range(int(match[2]))}
    return sorted(expected)


def refuse_partial(root: str, missing: Collection[str], consequence: str) -> None:
    """Refuse a folder or URL that lacks shards.

    Raises:
        ConfigError: if any is missing; the message lists them.
    """
    if missing:
        listed = ", ".join(sorted(missing)[:_LISTED])
        more = f" and {len(missing) - _LISTED} more" if len(missing) > _LISTED else ""
        raise ConfigError(
            f"{root}: missing or incomplete shards ({len(missing)}): {listed}{more}. {consequence}, or pass "
            "--allow-partial to continue without their clips"
        )


def _names(root: str, split: str) -> list[str]:
    return folder_at(place_of(root)).names(split)
