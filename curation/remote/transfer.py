"""A file behind a URL becomes a local one: interrupted downloads resume, and the hash is checked before the rename.

An incomplete file is kept beside the target as `.partial`, with the server's validator (ETag) in `.partial.json`. It is
resumed only if the server still has the same file (If-Range), or if a known hash would reveal a change.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import ssl
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import requests

from helix4d.core import AssetError, ReasonCode, fsync_folder, sha256_file, write_json
from helix4d.core.redaction import redact, redact_url
from helix4d.core.storage import LOCAL_FAULTS
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import web_address
from helix4d.curation.remote.network import RefusedHostError, UnreachableError
from helix4d.curation.remote.reasons import BrokenError, SlowError, reason_of
from helix4d.curation.remote.watch import Deadline
from helix4d.curation.remote.web import BROKEN, Web, pause_s

log = logging.getLogger("helix4d.curation")

_RANGE_BYTES = 8 << 20
_MOST_ATTEMPTS = 100
"""Limit that also counts attempts with progress: a server may send a few bytes at a time."""
_UNAUTHORIZED = (401, 403)
"""Statuses with which the hub answers anonymous requests for a private or gated repository."""
_SHA256 = re.compile(r'"?([0-9a-f]{64})"?')
Room = Callable[[int], None]
Progress = Callable[[int, int], None]


class Transfer:
    """Resumable downloads.

    Args:
        config: rate limit, attempts, pauses, time limits, and permitted hosts.
        most_bytes: size limit of a file; larger ones are refused.
        mode: permissions of new files, before the umask is applied.
    """

    def __init__(self, config: DownloadConfig, most_bytes: int, mode: int = 0o666) -> None:
        self.web = Web(config)
        self._config = config
        self._most_bytes = most_bytes
        self._mode = mode

    def fetch(
        self,
        file: RemoteFile,
        target: Path,
        room: Room = lambda total: None,
        progress: Progress = lambda done, total: None,
        deadline: Deadline | None = None,
        most_bytes: int | None = None,
    ) -> str:
        """Download a file; `target` appears only when it is complete and has the expected hash.

        Args:
            file: file to fetch; its size and hash are checked if known.
            target: path to write; the `.partial` file of an earlier attempt is resumed.
            room: called with the total size as soon as it is known.
            progress: called with the bytes received and the total (0 if unknown).
            deadline: when it must be complete; None for `download_timeout_s` from now.
            most_bytes: a lower size limit for this file.

        Returns:
            The sha256 of the file.

        Raises:
            AssetError: host_not_allowed, download_failed, checksum_mismatch, or out_of_memory (over the limit).
        """
        most = self._most_bytes if most_bytes is None else min(most_bytes, self._most_bytes)
        deadline = deadline or Deadline(self._config.download_timeout_s)
        one = _Download(file, most, room, progress, deadline, self._mode)
        for again in (False, True):
            partial = target.with_name(f"{target.name}.partial")
            try:
                published = self._complete(one, partial)
            except RefusedHostError as error:
                raise AssetError(ReasonCode.HOST_NOT_ALLOWED, str(error), file.name) from error
            except UnreachableError as error:
                raise AssetError(ReasonCode.DOWNLOAD_FAILED, str(error), file.name) from error
            digest = sha256_file(partial)
            expected = {known for known in (file.sha256, published) if known}
            if expected <= {digest}:
                os.replace(partial, target)
                _notes(partial).unlink(missing_ok=True)
                fsync_folder(target.parent)
                return digest
            # Corrupted in transit, or resumed from another version: download once more from the start.
            _drop(partial)
            problem = f"{redact_url(file.url)}: sha256 is {digest}, expected {' and '.join(sorted(expected))}"
            log.info("%s%s", problem, "" if again else ": downloading again")
        raise AssetError(ReasonCode.CHECKSUM_MISMATCH, problem, file.name)

    def _complete(self, one: _Download, partial: Path) -> str:
        """Retry until the partial file is complete; returns the sha256 that the server published, or ""."""
        file = one.file
        source = _Http(self.web, one) if _is_web(file.url) else _Fsspec(self.web, one, self._config)
        fruitless = 0
        for attempt in range(1, _MOST_ATTEMPTS + 1):
            before, slow = _size(partial), False
            try:
                if _attempt(source, one, partial):
                    return source.sha256
                problem = f"{file.url}: truncated: received {_size(partial)} of {max(file.size, source.total)} bytes"
            except BROKEN as error:
                if isinstance(error, OSError) and not isinstance(error, ssl.SSLError) and error.errno in LOCAL_FAULTS:
                    raise  # the local disk is full: not the server's fault
                problem, slow = f"{file.url}: {reason_of(error)}", isinstance(error, SlowError)
            # Slow attempts are no progress: otherwise a slow server would be tried _MOST_ATTEMPTS times.
            fruitless = 1 if _size(partial) > before and not slow else fruitless + 1
            if fruitless >= self._config.download_attempts or one.deadline.left_s() <= 0:
                break
            log.debug("%s (attempt %d)", redact(problem), attempt)
            time.sleep(pause_s(self._config, file.url, fruitless))
        raise UnreachableError(f"{problem} ({attempt} attempts)")


@dataclass(frozen=True)
class _Download:
    """The file and the limits of one call of `fetch`."""

    file: RemoteFile
    most_bytes: int
    room: Room
    progress: Progress
    deadline: Deadline
    mode: int


def _attempt(source: _Http | _Fsspec, one: _Download, partial: Path) -> bool:
    """Append what one response brings to the partial file; returns whether it is complete."""
    file = one.file
    have = _size(partial)
    notes = _read_notes(partial) if have else {}
    for start, total, block in source.blocks(have, str(notes.get("validator", ""))):
        if block is None:  # a response has begun
            total = max(total, file.size)
            if total > one.most_bytes:
                what = f"has {total:,} bytes, which exceeds the limit of {one.most_bytes:,}"
                raise AssetError(ReasonCode.OUT_OF_MEMORY, what, file.name)
            if start == 0:
                _drop(partial)
            have = start
            if total > 0:
                with one.deadline.paused():
                    one.room(total)
            partial.parent.mkdir(parents=True, exist_ok=True)
            write_json(_notes(partial), {"validator": source.validator}, one.mode)
            continue
        have += len(block)
        if have > one.most_bytes:
            what = f"exceeds the limit of {one.most_bytes:,} bytes"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, what, file.name)
        _append(partial, block, one.mode)
        one.progress(have, max(total, file.size, 0))
    whole = max(source.total, file.size)
    if whole >= 0 and have > whole:
        _drop(partial)
        raise UnreachableError(f"{file.url}: received {have} bytes, but the server announced {whole}")
    if have == 0 and whole <= 0:
        partial.parent.mkdir(parents=True, exist_ok=True)
        _append(partial, b"", one.mode)
    return whole < 0 or have == whole


def _append(partial: Path, block: bytes, mode: int) -> None:
    with open(os.open(partial, os.O_WRONLY | os.O_APPEND | os.O_CREAT, mode), "ab") as stream:
        stream.write(block)


class _Http:
    """Reads a file over HTTP. `validator`, `total` and `sha256` are those of the last response."""

    def __init__(self, web: Web, one: _Download) -> None:
        self._web, self._file, self._deadline = web, one.file, one.deadline
        self._address = web_address(one.file.url)
        self.validator, self.total, self.sha256 = "", -1, ""

    def blocks(self, have: int, validator: str) -> Any:
        """Yield (start, total, None) when a response begins, then (start, total, block)."""
        headers = self._web.network.hub_headers(self._address)
        if have and (validator or self._file.sha256):
            headers["Range"] = f"bytes={have}-"
            if validator:
                headers["If-Range"] = validator
        response = self._request(headers)
        if response.status_code == 416:  # already complete, or the file has changed: fetch all of it
            response.close()
            response = self._request(self._web.network.hub_headers(self._address))
        with response:
            start, self.total = _range(response)
            if start not in (0, have):
                raise UnreachableError(f"{self._file.url}: requested bytes from {have}, received them from {start}")
            self.validator = _validator(response.headers)
            self.sha256 = _published_sha256(response)
            yield start, self.total, None
            for block in self._web.blocks(response, self._deadline):
                yield start, self.total, block

    def _request(self, headers: Mapping[str, str]) -> requests.Response:
        try:
            return self._web.request(self._address, headers, deadline=self._deadline)
        except UnreachableError as error:
            advice = self._web.network.token_advice(self._address) if error.status in _UNAUTHORIZED else ""
            if not advice:
                raise
            raise UnreachableError(f"{error}{advice}", error.status) from error


class _Fsspec:
    """Reads a file over any protocol that fsspec supports, one range at a time."""

    def __init__(self, web: Web, one: _Download, config: DownloadConfig) -> None:
        self._web, self._file, self._deadline, self._config = web, one.file, one.deadline, config
        self._options = web.network.store_options(one.file.url)
        self.validator, self.total, self.sha256 = "", -1, ""

    def blocks(self, have: int, validator: str) -> Any:
        """As `_Http.blocks`."""
        import fsspec

        host = "/".join(self._file.url.split("/")[:3])
        self._web.pace.wait(host)
        try:
            files, path = fsspec.core.url_to_fs(self._file.url, **self._options)
            info = self._call(files, "info", path)
        except PermissionError as error:
            advice = "" if not self._options else f": pass --allow-host {host} to read it with your credentials"
            raise UnreachableError(f"{self._file.url}: {reason_of(error)}{advice}") from error
        except (FileNotFoundError, ImportError, NotImplementedError) as error:
            raise UnreachableError(f"{self._file.url}: {reason_of(error)}") from error
        except Exception as error:
            raise _store_error(error) from error
        self.total = -1 if info.get("size") is None else int(info["size"])
        self.validator = str(info.get("ETag") or info.get("etag") or info.get("LastModified") or "")
        start = have if have <= self.total and (validator == self.validator != "" or self._file.sha256) else 0
        yield start, self.total, None
        while start < self.total or self.total < 0:
            end = start + _RANGE_BYTES if self.total < 0 else min(start + _RANGE_BYTES, self.total)
            self._web.pace.wait(host)
            try:
                block = self._call(files, "cat_file", path, start=start, end=end)
            except Exception as error:
                raise _store_error(error) from error
            if not block:
                return
            yield start, self.total, block
            start += len(block)

    def _call(self, files: Any, name: str, path: str, **options: int) -> Any:
        """Call a method of a file system, with a timeout that the minimum rate allows for the requested bytes.

        Only asynchronous file systems, such as those of object stores, can be interrupted.
        """
        count = options.get("end", 0) - options.get("start", 0)
        limit_s = min(self._config.stall_s + count / self._config.min_bytes_per_s, self._deadline.left_s())
        if limit_s <= 0:
            raise SlowError(f"not complete after {self._deadline.seconds:g} s")
        if not files.async_impl:
            return getattr(files, name)(path, **options)
        from fsspec.asyn import sync

        try:
            return sync(files.loop, getattr(files, f"_{name}"), path, timeout=limit_s, **options)
        except TimeoutError as error:  # also fsspec's own
            raise SlowError(f"too slow: no response in {limit_s:.0f} s") from error


def _store_error(error: Exception) -> BrokenError:
    """Return an error of any protocol as one that is retried, without its message, which may quote a response."""
    return error if isinstance(error, SlowError) else BrokenError(reason_of(error))


def _is_web(url: str) -> bool:
    return url.split("://")[0].lower() in ("http", "https", "hf")


def _range(response: requests.Response) -> tuple[int, int]:
    """Offset of a response's first byte, and the total size; -1 if the server does not report the size."""
    if response.status_code == 206:
        part = re.fullmatch(r"bytes (\d+)-\d+/(\d+|\*)", response.headers.get("Content-Range", "").strip())
        if not part:
            raise UnreachableError(f"{response.url}: partial content without a valid Content-Range header")
        return int(part[1]), -1 if part[2] == "*" else int(part[2])
    length = response.headers.get("Content-Length", "")
    return 0, int(length) if length.isdigit() and not response.headers.get("Content-Encoding") else -1


def _validator(headers: Mapping[str, str]) -> str:
    etag = headers.get("ETag", "")
    return etag if etag.startswith('"') else headers.get("Last-Modified", "")


def _published_sha256(response: requests.Response) -> str:
    """Return the hub's hash of a large file, a header of the redirect to its storage or of the response itself."""
    for answer in (*response.history, response):
        if digest := _SHA256.fullmatch(answer.headers.get("X-Linked-ETag", "")):
            return digest[1]
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
