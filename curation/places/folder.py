"""A folder to read from, near or far: who reads an output asks for names and ranges, and does not know where it is."""

from __future__ import annotations

import itertools
import os
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

from helix4d.curation.places.store import Store

Place = Path | str
"""Where a folder or a file is: a path, or a URL that fsspec opens."""
_AT_ONCE = 8
_BATCH = 64


class Folder(Protocol):
    """What a folder on disk and a `Store` have in common. Names are relative, with slashes."""

    def read(self, name: str) -> bytes:
        """A whole file.

        Raises:
            FileNotFoundError: if there is none.
        """

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """(offset, size) -> those bytes; shorter where the file ends.

        Raises:
            FileNotFoundError: if there is no such file.
        """

    def size(self, name: str) -> int:
        """Bytes of a file.

        Raises:
            FileNotFoundError: if there is none.
        """

    def names(self, folder: str = "") -> list[str]:
        """Names of all files below a folder, sorted; [] if there is no such folder."""

    def address(self, name: str) -> str:
        """A file as people would name it."""


class LocalFolder:
    """A `Folder` on disk."""

    def __init__(self, path: Path) -> None:
        self._path = path

    def read(self, name: str) -> bytes:
        """See `Folder`."""
        return (self._path / name).read_bytes()

    def read_ranges(self, name: str, ranges: Iterable[tuple[int, int]]) -> list[bytes]:
        """See `Folder`."""
        found = []
        with open(self._path / name, "rb") as stream:
            for offset, size in ranges:
                stream.seek(offset)
                found.append(stream.read(size))
        return found

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
    """Whether it is a URL."""
    return "://" in str(place)


def place_of(text: str) -> Place:
    """What a person typed: a URL stays one."""
    return text.rstrip("/") if is_far(text) else Path(text)


def folder_at(place: Place) -> Folder:
    """The folder there.

    Raises:
        StoreError: if it is a URL of a protocol that is not known here.
    """
    return Store(str(place)) if is_far(place) else LocalFolder(Path(place))


def below(place: Place, name: str) -> Place:
    """A file of a folder."""
    return f"{place}/{name}" if is_far(place) else Path(place) / name


def folder_and_name(file: Place) -> tuple[Folder, str]:
    """The folder that a file is in, and its name there.

    Raises:
        StoreError: as `folder_at`.
    """
    if is_far(file):
        root, _, name = str(file).rpartition("/")
        return folder_at(root), name
    return LocalFolder(Path(file).parent), Path(file).name


def read_each(folder: Folder, names: Iterable[str]) -> Iterator[tuple[str, bytes | None]]:
    """Many small files in order, some at the same time; None for those that are not there.

    Raises:
        StoreError: if a far one cannot be had.
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
