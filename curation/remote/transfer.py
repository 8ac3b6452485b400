"""A file behind a URL becomes a local one: continued where the last attempt stopped, checked before it takes its name.

A half file lies beside the target as `.partial`, with what the server said of it in `.partial.json`. It is continued
only if the server still has the same file (If-Range), or if a known hash would tell.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import logging
import os
import re
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, BinaryIO

import requests
import urllib3

from helix4d.core import AssetError, ReasonCode, fsync_folder, sha256_file, write_json
from helix4d.core.storage import FULL
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import hub_headers, web_address
from helix4d.curation.remote.web import UnreachableError, Web, pause_s

log = logging.getLogger("helix4d.curation")

_BLOCK_BYTES = 1 << 16
_RANGE_BYTES = 8 << 20
_MOST_ATTEMPTS = 100
"""Also of those that bring bytes: a server that gives a few at a time would keep us for ever."""
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
Progress = Callable[[int, int], None]


class Transfer:
    """Downloads.

    Args:
        config: attempts and pauses.
        most_bytes: of one file; beyond it nothing is fetched.
    """

    def __init__(self, config: DownloadConfig, most_bytes: int) -> None:
        self.web = Web(config)
        self._config = config
        self._most_bytes = most_bytes

    def fetch(self, file: RemoteFile, target: Path, room: Callable[[int], None], progress: Progress) -> str:
        """Write a file to `target`, whole and with the right hash, or not at all. Returns its sha256.

        Args:
            file: what is known of it is checked.
            target: its path; a half file of an earlier attempt is continued.
            room: called with the whole size as soon as that is known.
            progress: called with the bytes here and in all (0 where unknown).

        Raises:
            AssetError: download_failed, checksum_mismatch; out_of_memory for a file over the limit.
        """
        for again in (False, True):
            partial = target.with_name(f"{target.name}.partial")
            try:
                said = self._complete(file, partial, room, progress)
            except UnreachableError as error:
                raise AssetError(ReasonCode.DOWNLOAD_FAILED, str(error), file.name) from error
            found = sha256_file(partial)
            expected = {digest for digest in (file.sha256, said) if digest}
            if expected <= {found}:
                os.replace(partial, target)
                _notes(partial).unlink(missing_ok=True)
                fsync_folder(target.parent)
                return found
            # Bytes may have been lost on the way, or half of it was of another version: once more from the start.
            _drop(partial)
            log.info("%s: sha256 is %s, expected %s%s", file.url, found, expected, "" if again else ": once more")
        expected_text = " and ".join(sorted(expected))
        raise AssetError(
            ReasonCode.CHECKSUM_MISMATCH, f"{file.url}: sha256 {found}, expected {expected_text}", file.name
        )

    def _complete(self, file: RemoteFile, partial: Path, room: Callable[[int], None], progress: Progress) -> str:
        """Attempts until the partial file is whole; returns the sha256 that the server told, or ""."""
        source = _Http(self.web, file) if _is_web(file.url) else _Fsspec(self.web, file)
        fruitless = 0
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            before = _size(partial)
            try:
                if self._attempt(source, file, partial, room, progress):
                    return source.sha256
                problem = f"{file.url}: ended after {_size(partial)} of {max(file.size, source.total)} bytes"
            except _BROKEN as error:
                if isinstance(error, OSError) and error.errno in FULL:
                    raise  # this machine's disk, no fault of the file's
                problem = f"{file.url}: {type(error).__name__}: {error}"[:300]
            fruitless = 1 if _size(partial) > before else fruitless + 1
            if fruitless >= self._config.download_attempts:
                break
            log.debug("%s (attempt %d)", problem, attempt)
            time.sleep(pause_s(self._config, file.url, fruitless))
        raise UnreachableError(f"{problem} ({attempt} attempts)")

    def _attempt(
        self, source: _Http | _Fsspec, file: RemoteFile, partial: Path, room: Callable[[int], None], progress: Progress
    ) -> bool:
        have = _size(partial)
        notes = _read_notes(partial) if have else {}
        for start, total, block in source.blocks(have, str(notes.get("validator", ""))):
            if block is None:  # an answer has begun
                total = max(total, file.size)
                if total > self._most_bytes:
                    what = f"has {total} bytes, limit {self._most_bytes}"
                    raise AssetError(ReasonCode.OUT_OF_MEMORY, what, file.name)
                if start == 0:
                    _drop(partial)
                have = start
                if total > 0:
                    room(total)
                partial.parent.mkdir(parents=True, exist_ok=True)
                write_json(_notes(partial), {"validator": source.validator})
                continue
            with open(partial, "ab") as stream:
                have = self._append(stream, have, block, file)
            progress(have, max(total, file.size, 0))
        whole = max(source.total, file.size)
        if whole >= 0 and have > whole:
            _drop(partial)
            raise UnreachableError(f"{file.url}: gave {have} bytes where {whole} were announced")
        if have == 0 and whole <= 0:
            partial.parent.mkdir(parents=True, exist_ok=True)
            partial.touch()
        return whole < 0 or have == whole

    def _append(self, stream: BinaryIO, have: int, block: bytes, file: RemoteFile) -> int:
        have += len(block)
        if have > self._most_bytes:
            raise AssetError(ReasonCode.OUT_OF_MEMORY, f"has more than {self._most_bytes} bytes", file.name)
        stream.write(block)
        return have


class _Http:
    """Blocks of a file over HTTP. `validator`, `total` and `sha256` are what the last answer said."""

    def __init__(self, web: Web, file: RemoteFile) -> None:
        self._web, self._file = web, file
        self._address = web_address(file.url)
        self.validator, self.total, self.sha256 = "", -1, ""

    def blocks(self, have: int, validator: str) -> Any:
        """(start, total, None) when an answer has begun, then (start, total, bytes)."""
        headers = hub_headers(self._address)
        if have and (validator or self._file.sha256):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        response = self._web.get(self._address, headers)
        if response.status_code == 416:  # there is no more, or the file has changed: all of it then
            response.close()
            response = self._web.get(self._address, hub_headers(self._address))
        with response:
            start, self.total = _range(response)
            if start not in (0, have):
                raise UnreachableError(f"{self._file.url}: asked for bytes from {have}, the answer begins at {start}")
            self.validator = _validator(response.headers)
            self.sha256 = _told_sha256(response)
            yield start, self.total, None
            while block := response.raw.read1(_BLOCK_BYTES):
                yield start, self.total, block


class _Fsspec:
    """Blocks of a file over any protocol that fsspec has, a range at a time."""

    def __init__(self, web: Web, file: RemoteFile) -> None:
        self._web, self._file = web, file
        self.validator, self.total, self.sha256 = "", -1, ""

    def blocks(self, have: int, validator: str) -> Any:
        """As `_Http.blocks`."""
        import fsspec

        host = "/".join(self._file.url.split("/")[:3])
        self._web.pace.wait(host)
        try:
            files, path = fsspec.core.url_to_fs(self._file.url)
            info = files.info(path)
        except (FileNotFoundError, PermissionError, ImportError, NotImplementedError) as error:
            raise UnreachableError(f"{self._file.url}: {type(error).__name__}: {error}") from error
        except Exception as error:
            raise OSError(f"{type(error).__name__}: {error}") from error
        self.total = -1 if info.get("size") is None else int(info["size"])
        self.validator = str(info.get("ETag") or info.get("etag") or info.get("LastModified") or "")
        start = have if have <= self.total and (validator == self.validator != "" or self._file.sha256) else 0
        yield start, self.total, None
        while start < self.total or self.total < 0:
            end = start + _RANGE_BYTES if self.total < 0 else min(start + _RANGE_BYTES, self.total)
            self._web.pace.wait(host)
            try:
                block = files.cat_file(path, start=start, end=end)
            except Exception as error:
                raise OSError(f"{type(error).__name__}: {error}") from error
            if not block:
                return
            yield start, self.total, block
            start += len(block)


_BROKEN = (requests.RequestException, urllib3.exceptions.HTTPError, http.client.HTTPException, OSError)


def _is_web(url: str) -> bool:
    return url.split("://")[0].lower() in ("http", "https", "hf")


def _range(response: requests.Response) -> tuple[int, int]:
    """First byte and whole size of an answer; -1 where the size is not told."""
    if response.status_code == 206:
        found = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not found:
            raise UnreachableError(f"{response.url}: a part without a readable Content-Range")
        return int(found[1]), -1 if found[2] == "*" else int(found[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and not response.headers.get("Content-Encoding") else -1


def _validator(headers: Mapping[str, str]) -> str:
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _told_sha256(response: requests.Response) -> str:
    """The hub's hash of a large file: it stands on the redirect to where the bytes lie, or on the answer."""
    for answer in (*response.history, response):
        for name in ("X-Linked-Etag", "X-Linked-ETag"):
            if found := _SHA256.fullmatch(answer.headers.get(name, "")):
                return found[1]
    return ""


def _size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def _notes(partial: Path) -> Path:
    return partial.with_name(f"{partial.name}.json")


def _read_notes(partial: Path) -> dict[str, Any]:
    try:
        notes = json.loads(_notes(partial).read_bytes())
    except (FileNotFoundError, ValueError):
        return {}
    return notes if isinstance(notes, dict) else {}


def _drop(partial: Path) -> None:
    partial.unlink(missing_ok=True)
    _notes(partial).unlink(missing_ok=True)


def hash_text(text: str) -> str:
    """Hex SHA-256 of a string."""
    return hashlib.sha256(text.encode()).hexdigest()
