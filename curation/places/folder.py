"""Local and remote folders behind one interface, so that readers of an output need not know where it is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from helix4d.curation.places.store import Store

Place = Path | str
"""Location of a folder or file: a path, or a URL that fsspec can open."""
_AT_ONCE = 8
_BATCH = 64


class Folder(Protocol):
    """Interface of local folders and `Store`. Names are relative paths with slashes."""

    def read(self, name: str) -> bytes:
        """Content of a file.

        Raises:
            FileNotFoundError: if the file does not exist.
        """

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """Content of (offset, size) ranges; shorter at the end of the file.

        Raises:
            FileNotFoundError: if the file does not exist.
        """

    def size(self, name: str) -> int:
        """Size of a file in bytes.

        Raises:
            FileNotFoundError: if the file does not exist.
        """

    def names(self, folder: str = "") -> list[str]:
        """Sorted names of all files below a folder; [] if the folder does not exist."""

    def address(self, name: str) -> str:
        """Path or URL of a file, for messages."""


class LocalFolder:
    """A `Folder` on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return (self._path / name).read_bytes()

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """See `Folder`."""
        parts = []
        with open(self._path / name, "rb") as stream:
            end = os.fstat(stream.fileno()).st_size
            for offset, size in ranges:
                stream.seek(min(offset, end))
                parts.append(stream.read(max(min(size, end - offset), 0)))  # sizes may be untrusted
        return parts

    def size(self, name: str) -> int:
        """See `Folder`."""
        return (self._path / name).stat().st_size

    def names(self, folder: str = "") -> list[str]:
        """See `Folder`."""
        return sorted(
            (Path(parent) / file).relative_to(self._path).as_posix()
            for parent, _, files in os.walk(self._path / folder, followlinks=True)
            for file in files
        )

    def address(self, name: str) -> str:
        """See `Folder`."""
        return str(self._path / name)


def is_far(place: Place) -> bool:
    """Return whether a place is a URL."""
    return "://" in str(place)


def place_of(text: str) -> Place:
    """Parse a path or URL given by the user."""
    return text.rstrip("/") if is_far(text) else Path(text)


def folder_at(place: Place) -> Folder:
    """Return the folder at a place.

    Raises:
        StoreError: if the URL's protocol is unknown, or the package for it is not installed.
    """
    return Store(str(place)) if is_far(place) else LocalFolder(Path(place))


def file_in(place: Place, name: str) -> Place:
    """Return the file `name` in a folder."""
    return f"{place}/{name}" if is_far(place) else Path(place) / name


def folder_and_name(file: Place) -> tuple[Folder, str]:
    """Return the folder of a file, and the file's name in it.

    Raises:
        StoreError: as `folder_at`.
    """
    if is_far(file):
        root, _, name = str(file).rpartition("/")
        return folder_at(root), name
    return LocalFolder(Path(file).parent), Path(file).name


def read_each(folder: Folder, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Read many small files concurrently, in order; the content of a missing file is None.

    Raises:
        StoreError: if a remote file cannot be read.
    """

    def read(name: str) -> bytes | None:
        try:
            return folder.read(name)
        except FileNotFoundError:
            return None

    rest = iter(names)
    with ThreadPoolExecutor(_AT_ONCE) as pool:
        while batch := list(itertools.islice(rest, _BATCH)):
            yield from zip(batch, pool.map(read, batch), strict=True)
