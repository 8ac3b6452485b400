"""A bounded folder of downloaded assets, shared by all processes of a machine.

An entry is a folder named by the hash of its URL and version: the file, for a `.gltf` also what that names, and
`complete.json`, written last. Whoever reads an entry holds a shared lock on the file beside it, whoever fills or
evicts it an exclusive one; the kernel drops the locks of the dead.
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
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.transfer import Progress, Transfer, hash_text
from helix4d.curation.remote.web import UnreachableError

_COMPLETE = "complete.json"
_RESERVED = "reserved"
_TOTAL = "total"
_FILES = "files"
_ID_DIGITS = 40
_POLL_S = 0.2
_EMPTIED_TO = 0.95
"""Of the bound, when something must go: counting tens of thousands of entries takes seconds, so it is done rarely."""
_FRESH_S = 7 * 86400.0
"""How long the content of a URL counts whose changes nothing tells."""


@dataclass(frozen=True)
class _Entry:
    folder: Path
    lock: Path
    remembered: Path

    @property
    def complete(self) -> Path:
        return self.folder / _COMPLETE


class Cache:
    """Downloads into a bounded folder.

    Args:
        config: folder, bound, pace and attempts; `patience` for others.
    """

    def __init__(self, config: DownloadConfig) -> None:
        self._folder = config.cache.expanduser() / "files"
        self._most_bytes = int(config.cache_gb * 1e9)
        self._transfer = Transfer(config, min(Limits().file_bytes, self._most_bytes))
        self.web = self._transfer.web
        self.patience = config

    @contextmanager
    def lease(self, file: RemoteFile, progress: Progress = lambda done, total: None) -> Iterator[Path]:
        """The file's local path; it is not evicted while the block runs.

        Raises:
            AssetError: download_failed, checksum_mismatch, out_of_memory (too large).
        """
        entry = self._entry(file)
        while True:
            with file_lock(entry.lock, shared=True):
                path = _whole(entry, file)
                if path is not None:
                    os.utime(entry.complete)
                    yield path
                    return
            with file_lock(entry.lock):
                if _whole(entry, file) is None:
                    self._fill(entry, file, progress)

    def content_hash(self, file: RemoteFile) -> str:
        """`assets.content_hash` of the file, which is fetched unless a hash of it is known.

        A hash is remembered though the file is evicted, so a plan that was interrupted fetches nothing twice.

        Raises:
            AssetError: as `lease`.
        """
        if file.sha256 and file.suffix != ".gltf":
            return file.sha256
        remembered = self._entry(file).remembered
        if remembered.exists() and (file.is_pinned or _age_s(remembered) < _FRESH_S):
            return remembered.read_text(encoding="ascii")
        with self.lease(file) as path:
            digest = content_hash(path)
        write_bytes(remembered, digest.encode())
        return digest

    def _entry(self, file: RemoteFile) -> _Entry:
        name = hash_text(f"{file.url}\n{file.version}")[:_ID_DIGITS]
        parent = self._folder / name[:2]
        return _Entry(parent / name, parent / f"{name}.lock", parent / f"{name}.hash")

    def _fill(self, entry: _Entry, file: RemoteFile, progress: Progress) -> None:
        entry.complete.unlink(missing_ok=True)
        if self._total() > self._most_bytes:
            # The bound was larger once. Two that wait for each other's half files would wait for ever.
            shutil.rmtree(entry.folder, ignore_errors=True)
        path = entry.folder / _FILES / file.name
        digest = self._transfer.fetch(file, path, lambda total: self._make_room(entry, total), progress)
        if file.suffix == ".gltf":
            self._fetch_named(entry, file, path, progress)
        self._make_room(entry, _bytes(entry.folder / _FILES))
        write_json(entry.complete, {"url": file.url, "name": file.name, "sha256": digest, "time": time.time()})
        (entry.folder / _RESERVED).unlink(missing_ok=True)

    def _fetch_named(self, entry: _Entry, file: RemoteFile, path: Path, progress: Progress) -> None:
        """Buffers and images of a `.gltf`. One that the server does not have is left for the evaluator to judge."""
        for uri, target in external_uris(path):
            if target == path.resolve():
                continue
            here = _bytes(entry.folder / _FILES)
            named = RemoteFile(_sibling(file.url, uri), version=file.version)

            def room(total: int, here: int = here) -> None:
                self._make_room(entry, here + total)

            try:
                self._transfer.fetch(named, target, room, progress)
            except AssetError as error:
                missing = isinstance(error.__cause__, UnreachableError) and error.__cause__.status in (404, 410)
                if not missing:
                    raise

    def _make_room(self, entry: _Entry, needed: int) -> None:
        """Wait until the entry may take `needed` bytes in all, evicting what was used longest ago.

        Raises:
            AssetError: out_of_memory if the cache could not hold it alone.
        """
        if needed > self._most_bytes:
            what = f"needs {needed} bytes, the cache may hold {self._most_bytes}"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, what)
        while not self._reserve(entry, needed):
            time.sleep(_POLL_S)

    def _reserve(self, entry: _Entry, needed: int) -> bool:
        with file_lock(self._folder / "room.lock"):
            own = _size(entry.folder)
            others = self._total() - own
            if others + needed > self._most_bytes:
                others = self._empty(entry, needed)
            fits = others + needed <= self._most_bytes
            # Before the entry grows: after a crash the total may be too large, which the next count finds out.
            write_bytes(self._folder / _TOTAL, str(others + (needed if fits else own)).encode())
            if fits:
                entry.folder.mkdir(parents=True, exist_ok=True)
                write_bytes(entry.folder / _RESERVED, str(needed).encode())
            return fits

    def _empty(self, entry: _Entry, needed: int) -> int:
        """Evict others, what was used longest ago first; what they hold afterwards, counted."""
        others = [(used, size, folder) for used, size, folder in self._entries() if folder != entry.folder]
        total = sum(size for _, size, _ in others)
        if total + needed <= self._most_bytes:
            return total
        for _, size, folder in sorted(others):
            if total + needed <= _EMPTIED_TO * self._most_bytes:
                break
            if _evict(folder):
                total -= size
        return total

    def _total(self) -> int:
        """Bytes of all entries, as remembered, but for a few of their own notes; counted if they are not."""
        try:
            return int((self._folder / _TOTAL).read_bytes())
        except (FileNotFoundError, ValueError):
            return sum(size for _, size, _ in self._entries())

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, folder) of every entry; bytes that are only reserved count."""
        for folder in self._folder.glob("??/*"):
            if folder.is_dir():
                yield _last_use(folder), _size(folder), folder


def _whole(entry: _Entry, file: RemoteFile) -> Path | None:
    """The entry's file, if it is complete and the one that is wanted."""
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


def _evict(folder: Path) -> bool:
    """Remove an entry that nobody holds."""
    try:
        with file_lock(folder.with_name(f"{folder.name}.lock"), wait=False):
            (folder / _COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    return True


def _bytes(folder: Path) -> int:
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _size(folder: Path) -> int:
    """Bytes that an entry takes or will take."""
    return max(_bytes(folder), _reserved(folder))


def _reserved(folder: Path) -> int:
    try:
        return int((folder / _RESERVED).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _last_use(folder: Path) -> float:
    for path in (folder / _COMPLETE, folder):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0


def _age_s(path: Path) -> float:
    return time.time() - path.stat().st_mtime


def _sibling(url: str, uri: str) -> str:
    """The URL of what a file at `url` names relative to itself."""
    parts = urlsplit(url)
    if parts.scheme in ("http", "https"):
        return urljoin(url, uri)
    folder = parts.path.rpartition("/")[0]
    return urlunsplit(parts._replace(path=f"{folder}/{quote(uri) if '%' not in uri else uri}"))


def pinned(file: RemoteFile, sha256: str) -> RemoteFile:
    """The file with the hash that a plan promised, for those whose hash is that of their bytes."""
    return file if file.suffix == ".gltf" else replace(file, sha256=sha256)
