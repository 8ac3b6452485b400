"""A bounded folder of downloaded assets, shared by all processes of a machine.

An entry is a folder named after the hash of its URL and version. It holds the file (for a `.gltf` also its referenced
files) and `complete.json`, written last. Readers of an entry hold a shared lock on the lock file beside it, a
process that fills or evicts it an exclusive lock; the kernel releases the locks of a process that dies.
"""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from urllib.parse import quote, urljoin, urlsplit, urlunsplit

from helix4d.assets import Limits, content_hash, external_uris
from helix4d.core import AssetError, ReasonCode, write_bytes, write_json
from helix4d.core.locks import file_lock
from helix4d.core.redaction import redact_url
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import web_address
from helix4d.curation.remote.network import UnreachableError
from helix4d.curation.remote.private import PRIVATE, close_to_others, private_folder
from helix4d.curation.remote.room import COMPLETE, Room, bytes_below, entry_lock
from helix4d.curation.remote.transfer import Progress, Transfer, hash_text
from helix4d.curation.remote.watch import Deadline

_FILES = "files"
_ID_DIGITS = 40
_MOST_REFERENCED = 1000
"""Files that a `.gltf` may refer to. Each is a request; assets of the large collections have fewer than a hundred."""
_FRESH_S = 7 * 86400.0
"""How long a download counts as current if its URL has neither a version nor a hash."""


@dataclass(frozen=True)
class _Entry:
    folder: Path
    lock: Path
    recorded: Path

    @property
    def complete(self) -> Path:
        return self.folder / COMPLETE


class Cache:
    """A bounded folder of downloads, which only its owner may read.

    Args:
        config: folder, size limit, rate limit, attempts, time limits, and permitted hosts.

    Attributes:
        web: the HTTP session of the downloads.
        patience: `config`, for callers that access the network themselves.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._folder = config.cache.expanduser() / "files"
        self._room = Room(self._folder, int(config.cache_gb * 1e9))
        self._most_bytes = min(Limits().file_bytes, self._room.most_bytes)
        self._transfer = Transfer(config, self._most_bytes, PRIVATE)
        self.web = self._transfer.web
        self.patience = config

    @contextmanager
    def lease(self, file: RemoteFile, progress: Progress = lambda done, total: None) -> Iterator[Path]:
        """Download a file unless it is cached, and protect it from eviction while the block runs.

        Yields:
            The file's local path.

        Raises:
            AssetError: host_not_allowed, download_failed, checksum_mismatch, or out_of_memory (too large).
            SetupError: if the folder belongs to another user.
        """
        close_to_others(self._folder)
        entry = self._entry(file)
        private_folder(entry.folder.parent)
        while True:
            with file_lock(entry.lock, shared=True):
                path = _valid_path(entry, file)
                if path is not None:
                    os.utime(entry.complete)
                    yield path
                    return
            with file_lock(entry.lock):
                if _valid_path(entry, file) is None:
                    self._fill(entry, file, progress)

    def content_hash(self, file: RemoteFile) -> str:
        """`assets.content_hash` of a file, which is downloaded unless its hash is known.

        Hashes are kept when files are evicted, so resuming an interrupted plan downloads nothing twice.

        Raises:
            AssetError: see `lease`.
        """
        if file.sha256 and file.suffix != ".gltf":
            return file.sha256
        recorded = self._entry(file).recorded
        if recorded.exists() and (file.is_pinned or _age_s(recorded) < _FRESH_S):
            return recorded.read_text(encoding="ascii")
        with self.lease(file) as path:
            digest = content_hash(path)
        write_bytes(recorded, digest.encode(), PRIVATE)
        return digest

    def _entry(self, file: RemoteFile) -> _Entry:
        # A web address names the hub, while an hf:// URL does not: two hubs may have different files of one name.
        name = hash_text(f"{web_address(file.url)}\n{file.version}")[:_ID_DIGITS]
        parent = self._folder / name[:2]
        folder = parent / name
        return _Entry(folder, entry_lock(folder), parent / f"{name}.hash")

    def _fill(self, entry: _Entry, file: RemoteFile, progress: Progress) -> None:
        entry.complete.unlink(missing_ok=True)
        if self._room.is_overfull():
            # The limit was lowered. Two processes waiting for each other's partial files would deadlock.
            shutil.rmtree(entry.folder, ignore_errors=True)
        path = entry.folder / _FILES / file.name
        private_folder(path.parent)
        deadline = Deadline(self.patience.download_timeout_s)
        digest = self._transfer.fetch(
            file, path, lambda total: self._room.take(entry.folder, total), progress, deadline
        )
        if file.suffix == ".gltf":
            self._fetch_referenced(entry, file, path, progress, deadline)
        self._room.take(entry.folder, bytes_below(entry.folder / _FILES))
        facts = {"url": redact_url(file.url), "name": file.name, "sha256": digest, "time": time.time()}
        write_json(entry.complete, facts, PRIVATE)
        self._room.settle(entry.folder)

    def _fetch_referenced(
        self, entry: _Entry, file: RemoteFile, path: Path, progress: Progress, deadline: Deadline
    ) -> None:
        """Fetch buffers and images of a `.gltf`. Missing ones are skipped: loading the asset reports them."""
        uris = [(uri, target) for uri, target in external_uris(path) if target != path.resolve()]
        if len(uris) > _MOST_REFERENCED:
            what = f"refers to {len(uris):,} files, which exceeds the limit of {_MOST_REFERENCED:,}"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, what, file.name)
        own = path.stat().st_size
        for uri, target in uris:
            present = bytes_below(entry.folder / _FILES)
            referenced = RemoteFile(_sibling(file.url, uri), version=file.version)

            def room(total: int, present: int = present) -> None:
                self._room.take(entry.folder, present + total)

            private_folder(target.parent)
            left = self._most_bytes - max(present - own, 0)
            try:
                self._transfer.fetch(referenced, target, room, progress, deadline, left)
            except AssetError as error:
                missing = isinstance(error.__cause__, UnreachableError) and error.__cause__.status in (404, 410)
                if not missing:
                    raise


def _valid_path(entry: _Entry, file: RemoteFile) -> Path | None:
    """Path of the entry's file, if it is complete, current and has the expected hash."""
    try:
        facts: dict[str, Any] = json.loads(entry.complete.read_bytes())
    except (FileNotFoundError, ValueError):
        return None
    if file.sha256 and facts["sha256"] != file.sha256:
        return None
    if not file.is_pinned and time.time() - facts["time"] > _FRESH_S:
        return None
    path = entry.folder / _FILES / str(facts["name"])
    return path if path.is_file() else None


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _sibling(url: str, uri: str) -> str:
    """URL of a relative reference in the file at `url`."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return urljoin(url, uri)
    folder = parts.path.rpartition("/")[0]
    return urlunsplit(parts._replace(path=f"{folder}/{quote(uri) if '%' not in uri else uri}"))


def pinned(file: RemoteFile, sha256: str) -> RemoteFile:
    """Return the file with the planned hash, for formats whose content hash is that of the file's bytes."""
    return file if file.suffix == ".gltf" else replace(file, sha256=sha256)
