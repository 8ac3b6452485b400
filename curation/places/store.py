"""Files below a URL, read and written through fsspec with retries.

Writes are atomic: object stores show only complete files; with other protocols, a file is written under a temporary
name and then moved.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from helix4d.core import FormatError, Helix4DError
from helix4d.core.names import check_relative
from helix4d.core.redaction import redact, redact_url
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.hub import web_address
from helix4d.curation.remote.network import RefusedHostError, named_by
from helix4d.curation.remote.reasons import BrokenError, reason_of
from helix4d.curation.remote.web import pause_s

log = logging.getLogger("helix4d.curation")
_Result = TypeVar("_Result")
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "obs", "memory"})


def is_half(name: str) -> bool:
    """Return whether a name is that of an incomplete upload, which a crash may have left behind."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".tmp")


class StoreError(Helix4DError):
    """A file could not be read from or written to a store, after several attempts."""

    def __init__(self, message: str) -> None:
        super().__init__(redact(message))


class Store:
    """Files by name below a URL.

    Args:
        url: URL of a folder, which the operator named. A web server's redirects are checked like those of downloads.
        patience: attempts, pauses and permitted hosts.

    Raises:
        StoreError: if the protocol is unknown, or the package for it is not installed.
    """

    def __init__(self, url: str, patience: DownloadConfig | None = None) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self._patience = patience or DownloadConfig()
        address = web_address(self.url)
        options: dict[str, Any] = {}
        try:
            if address.startswith("http"):
                from helix4d.curation.remote.web_folder import guarded_client

                options["get_client"] = guarded_client((*self._patience.allow_host, *named_by(address)))
            self._files, self._root = fsspec.core.url_to_fs(address, **options)
        except (ValueError, ImportError) as error:
            raise StoreError(f"{url}: {error}") from error
        self._root = self._root.rstrip("/")

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            FileNotFoundError: if the file does not exist.
            StoreError: if it cannot be read.
        """
        data: bytes = self._try(f"read {name}", lambda: self._files.cat_file(self._path(name)))
        return data

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """Content of (offset, size) ranges; shorter at the end of the file. Nothing else is transferred.

        Raises:
            FileNotFoundError, StoreError: as `read`.
        """
        wanted = list(ranges)
        requested = [(offset, offset + size) for offset, size in wanted if size]

        def attempt() -> list[bytes]:
            starts, ends = [start for start, _ in requested], [end for _, end in requested]
            # Ranges are not merged across gaps, which would transfer bytes that were not requested.
            paths = [self._path(name)] * len(requested)
            parts = self._files.cat_ranges(paths, starts, ends, max_gap=None, on_error="return")
            for number, (one, start) in enumerate(zip(parts, starts, strict=True)):
                if isinstance(one, FileNotFoundError):
                    raise one
                if isinstance(one, Exception):
                    if self._files.info(self._path(name))["size"] > start:
                        raise one
                    parts[number] = b""  # servers refuse a range past the end
            return list(parts)

        received = iter(self._try(f"read {name}", attempt) if requested else [])
        return [next(received) if size else b"" for _, size in wanted]

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            FileNotFoundError: if the file does not exist.
            StoreError: if the size is unknown.
        """

        def attempt() -> int:
            self._files.invalidate_cache()
            size = self._files.info(self._path(name))["size"]
            if size is None:
                raise BrokenError("the server does not report its size")
            return int(size)

        return self._try(f"read {name}", attempt)

    def address(self, name: str) -> str:
        """URL of a file, for messages: its secrets are hidden."""
        return redact_url(f"{self.url}/{name}")

    def write(self, name: str, data: bytes) -> None:
        """Write a file atomically.

        Raises:
            StoreError: if it cannot be written.
        """
        self._put(name, len(data), lambda path: self._files.pipe_file(path, data))

    def upload(self, name: str, source: Path) -> None:
        """Write a copy of a local file atomically.

        Raises:
            StoreError: if it cannot be written.
        """
        self._put(name, source.stat().st_size, lambda path: self._files.put_file(str(source), path))

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of all files below a folder; [] if the folder does not exist.

        Raises:
            StoreError: if the folder cannot be listed.
        """
        return sorted(self.entries(folder))

    def entries(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """Name -> the protocol's information (size, ETag, ...) of every file below a folder.

        Names become paths of local copies, so a listing with a name that points outside the folder is refused.

        Raises:
            StoreError: if the folder cannot be listed, or the server lists such a name.
        """
        path = self._path(folder)
        if self.url.startswith("http"):
            path += "/"  # under which web servers list folders

        def attempt() -> dict[str, dict[str, Any]]:
            self._files.invalidate_cache()
            try:
                if self.url.startswith("http"):
                    self._files.ls(path)  # `find` ignores errors and returns an empty folder
                return dict(self._files.find(path, detail=True))
            except FileNotFoundError:
                return {}

        entries = self._try(f"list {folder}".rstrip(), attempt)
        try:
            return {
                check_relative(name.removeprefix(f"{self._root}/"), f"listing of {self.url}"): info
                for name, info in entries.items()
            }
        except FormatError as error:
            raise StoreError(str(error)) from error

    def remove(self, name: str) -> None:
        """Remove a file if it exists.

        Raises:
            StoreError: if it cannot be removed.
        """

        def attempt() -> None:
            try:
                self._files.rm_file(self._path(name))
            except FileNotFoundError:
                return

        self._try(f"remove {name}", attempt)

    def _put(self, name: str, size: int, write: Callable[[str], Any]) -> None:
        path = self._path(name)
        direct = self.url.partition("://")[0].lower() in _ATOMIC

        def attempt() -> None:
            self._files.makedirs(path.rpartition("/")[0], exist_ok=True)
            target = path if direct else f"{path.rpartition('/')[0]}/.{uuid.uuid4().hex}.tmp"
            write(target)
            self._files.invalidate_cache()
            if (written := self._files.info(target)["size"]) != size:
                raise BrokenError(f"only {written} of {size} bytes were stored")
            if not direct:
                self._files.mv(target, path)

        try:
            self._try(f"write {name}", attempt)
        except FileNotFoundError as error:
            raise StoreError(f"{self.url}: cannot write {name}: no such bucket or folder") from error

    def _try(self, what: str, attempt: Callable[[], _Result]) -> _Result:
        for number in range(1, self._patience.download_attempts + 1):
            try:
                return attempt()
            except Exception as error:  # every protocol has its own errors
                if refused := _refusal(error):
                    advice = "pass the address that it redirects to instead, if you trust it"
                    raise StoreError(f"{self.url}: cannot {what}: {refused.problem}: {advice}") from error
                if isinstance(error, FileNotFoundError):
                    raise  # a missing file or bucket: retrying does not help
                problem = error
                log.debug("%s: cannot %s (attempt %d): %s", redact_url(self.url), what, number, reason_of(error))
            if number < self._patience.download_attempts:
                time.sleep(pause_s(self._patience, f"{self.url} {what}", number))
        raise StoreError(f"{self.url}: cannot {what}: {reason_of(problem)} ({number} attempts)") from problem

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root


def _refusal(error: BaseException | None) -> RefusedHostError | None:
    """Find the refusal behind an error: fsspec reports a file as missing whatever went wrong."""
    while error is not None and not isinstance(error, RefusedHostError):
        error = error.__cause__ or error.__context__
    return error
