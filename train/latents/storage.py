"""Shards near and far: `ShardReader` over a folder, or over any URL that fsspec opens, one range per member."""

from __future__ import annotations

import json

from helix4d.core import ConfigError, Schema
from helix4d.curation.places.folder import file_in, folder_at, place_of
from helix4d.curation.shards.shard import ShardReader

INDEX_FILE = "index.json"
INDEX = Schema("list of latent shards", version=1, oldest=1, rewrite="run `helix4d encode` again")


def open_shard(root: str, name: str) -> ShardReader:
    """The shard `name` (`train/helix4d-000000.tar`) under a folder or URL."""
    return ShardReader(file_in(place_of(root), name))


def read_file(root: str, name: str) -> bytes:
    """A whole small file under a folder or URL."""
    return folder_at(place_of(root)).read(name)


def list_shards(root: str, split: str) -> list[str]:
    """Names of an encoded folder's shards of one split, from its `index.json`."""
    try:
        index = json.loads(read_file(root, INDEX_FILE))
    except FileNotFoundError as error:
        raise ConfigError(
            f"{root}: no {INDEX_FILE} in it: not what `helix4d encode` writes, or let it finish first"
        ) from error
    INDEX.check(index, f"{root.rstrip('/')}/{INDEX_FILE}")
    shards: list[str] = index["shards"]
    return [name for name in shards if name.startswith(f"{split}/")]
