"""Shards near and far: `ShardReader` over a folder, or over any URL that fsspec opens, one range per member."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from core import ConfigError, FormatError, Schema
from curation.shard import SIDECAR, ShardReader

INDEX_FILE = "index.json"
INDEX = Schema("list of latent shards", version=1, oldest=1, rewrite="run `helix4d encode` again")


class RemoteShardReader(ShardReader):
    """A committed shard behind a URL. A member is one ranged read."""

    def __init__(self, url: str) -> None:
        self._files, self._tar = _file_system(url)
        sidecar = self._tar.removesuffix(".tar") + ".json"
        try:
            self.sidecar = json.loads(self._files.cat_file(sidecar))
        except FileNotFoundError as error:
            raise FormatError(f"{url}: no sidecar beside it: the shard is not committed") from error
        SIDECAR.check(self.sidecar, url)
        self.path = Path(self._tar)
        self._samples = {sample["key"]: sample for sample in self.sidecar["samples"]}

    def read(self, key: str, suffix: str) -> bytes:
        """One member's bytes."""
        offset, size = self._samples[key]["members"][suffix]
        data: bytes = self._files.cat_file(self._tar, start=offset, end=offset + size) if size else b""
        if len(data) != size:
            raise FormatError(f"{self._tar}: {key}.{suffix} ends after {len(data)} of {size} bytes")
        return data


def open_shard(root: str, name: str) -> ShardReader:
    """The shard `name` (`train/helix4d-000000.tar`) under a folder or URL."""
    return RemoteShardReader(f"{root.rstrip('/')}/{name}") if is_remote(root) else ShardReader(Path(root) / name)


def read_file(root: str, name: str) -> bytes:
    """A whole small file under a folder or URL."""
    if not is_remote(root):
        return (Path(root) / name).read_bytes()
    files, path = _file_system(f"{root.rstrip('/')}/{name}")
    data: bytes = files.cat_file(path)
    return data


def list_shards(root: str, split: str) -> list[str]:
    """Names of an encoded folder's shards of one split, from its `index.json`."""
    try:
        index = json.loads(read_file(root, INDEX_FILE))
    except FileNotFoundError as error:
        raise ConfigError(f"{root}: no {INDEX_FILE} in it: let `helix4d encode` finish first") from error
    INDEX.check(index, f"{root.rstrip('/')}/{INDEX_FILE}")
    shards: list[str] = index["shards"]
    return [name for name in shards if name.startswith(f"{split}/")]


def is_remote(root: str) -> bool:
    """Whether it is a URL."""
    return "://" in root


def _file_system(url: str) -> tuple[Any, str]:
    import fsspec

    return fsspec.core.url_to_fs(url)
