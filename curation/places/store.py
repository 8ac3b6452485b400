"""Files below a URL that fsspec opens: whole ones and ranges, read and written with patience.

An object store shows a file whole or not at all, so a put is atomic there. Other protocols get the file under another
name first, and then a move.
"""

from __future__ import annotations

import logging
import time
import uuid
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any, TypeVar

from helix4d.core import Helix4DError
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.hub import web_address
from helix4d.curation.remote.web import pause_s

log = logging.getLogger("helix4d.curation")
_Result = TypeVar("_Result")
_ATOMIC = frozenset({"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "adl", "oss", "obs", "memory"})


def is_half(name: str) -> bool:
    """Whether a file has the name of one that is being put there; what a crash left of it is of no use."""
    last = name.rpartition("/")[2]
    return last.startswith(".") and last.endswith(".tmp")


class StoreError(Helix4DError):
    """A store refused to give or to take a file, after several attempts."""


class Store:
    """Files by name below a URL.

    Args:
        url: of a folder.
        patience: how often and with which pauses to try again.
    """

    def __init__(self, url: str, patience: DownloadConfig | None = None) -> None:
        import fsspec

        self.url = url.rstrip("/")
        self._patience = patience or DownloadConfig()
        try:
            self._files, self._root = fsspec.core.url_to_fs(web_address(self.url))
        except (ValueError, ImportError) as error:
            raise StoreError(f"{url}: {error}") from error
        self._root = self._root.rstrip("/")

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: if there is none.
            StoreError: if it cannot be had.
        """
        data: bytes = self._try(f"read {name}", lambda: self._files.cat_file(self._path(name)))
        return data

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """(offset, size) -> those bytes; shorter where the file ends. Nothing else is moved.

        Raises:
            FileNotFoundError, StoreError: as `read`.
        """
        wanted = list(ranges)
        asked = [(offset, offset + size) for offset, size in wanted if size]

        def attempt() -> list[bytes]:
            starts, ends = [start for start, _ in asked], [end for _, end in asked]
            # Ranges are not joined over gaps: that would move what nobody asked for.
            paths = [self._path(name)] * len(asked)
            found = self._files.cat_ranges(paths, starts, ends, max_gap=None, on_error="return")
            for number, (one, start) in enumerate(zip(found, starts, strict=True)):
                if isinstance(one, FileNotFoundError):
                    raise one
                if isinstance(one, Exception):
                    if self._files.info(self._path(name))["size"] > start:
                        raise one
                    found[number] = b""  # servers refuse a range past the end
            return list(found)

        found = iter(self._try(f"read {name}", attempt) if asked else [])
        return [next(found) if size else b"" for _, size in wanted]

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: if there is none.
            StoreError: if nobody tells.
        """

        def attempt() -> int:
            self._files.invalidate_cache()
            found = self._files.info(self._path(name))["size"]
            if found is None:
                raise OSError("its size is not told")
            return int(found)

        return self._try(f"read {name}", attempt)

    def address(self, name: str) -> str:
        """The URL of a file."""
        return f"{self.url}/{name}"

    def write(self, name: str, data: bytes) -> None:
        """Put a file there, whole or not at all.

        Raises:
            StoreError: if the store refuses it.
        """
        self._put(name, len(data), lambda path: self._files.pipe_file(path, data))

    def upload(self, name: str, source: Path) -> None:
        """`write` of a local file.

        Raises:
            StoreError: if the store refuses it.
        """
        self._put(name, source.stat().st_size, lambda path: self._files.put_file(str(source), path))

    def names(self, folder: str = "") -> list[str]:
        """Names of all files below a folder, sorted; [] if there is no such folder.

        Raises:
            StoreError: if it cannot be listed.
        """
        return sorted(self.entries(folder))

    def entries(self, folder: str = "") -> dict[str, dict[str, Any]]:
        """Name -> what the protocol says of the file (size, ETag, ...), of all files below a folder.

        Raises:
            StoreError: if it cannot be listed.
        """
        path = self._path(folder)
        if self.url.startswith("http"):
            path += "/"  # a web server lists a folder under this name

        def attempt() -> dict[str, dict[str, Any]]:
            self._files.invalidate_cache()
            try:
                if self.url.startswith("http"):
                    self._files.ls(path)  # `find` takes a server that does not answer for an empty folder
                return dict(self._files.find(path, detail=True))
            except FileNotFoundError:
                return {}

        found = self._try(f"list {folder}".rstrip(), attempt)
        return {name.removeprefix(f"{self._root}/"): info for name, info in found.items()}

    def remove(self, name: str) -> None:
        """Remove a file, if it is there.

        Raises:
            StoreError: if the store refuses it.
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
            if (found := self._files.info(target)["size"]) != size:
                raise OSError(f"{found} of {size} bytes arrived")
            if not direct:
                self._files.mv(target, path)

        try:
            self._try(f"write {name}", attempt)
        except FileNotFoundError as error:
            raise StoreError(f"{self.url}: cannot write {name}: there is no such place ({error})") from error

    def _try(self, what: str, attempt: Callable[[], _Result]) -> _Result:
        for number in range(1, self._patience.download_attempts + 1):
            try:
                return attempt()
            except FileNotFoundError:
                # Reading: there is none. Writing: no bucket. Neither comes by waiting.
                raise
            except Exception as error:  # noqa: BLE001 (every protocol has errors of its own)
                problem = error
                log.debug("%s: cannot %s (attempt %d): %s", self.url, what, number, error)
            if number < self._patience.download_attempts:
                time.sleep(pause_s(self._patience, f"{self.url} {what}", number))
        told = f"{type(problem).__name__}: {problem}"[:300]
        raise StoreError(f"{self.url}: cannot {what}: {told} ({number} attempts)") from problem

    def _path(self, name: str) -> str:
        return f"{self._root}/{name}" if name else self._root
