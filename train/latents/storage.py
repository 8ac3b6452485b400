"""Shards in a folder, or at any URL that fsspec opens, read one byte range per member."""

from __future__ import annotations

from helix4d.core import ConfigError, FormatError, Schema
from helix4d.core.documents import parse_document
from helix4d.core.names import check_relative
from helix4d.curation.places.folder import file_in, folder_at, place_of
from helix4d.curation.shards.reader import ShardReader

INDEX_FILE = "index.json"
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
