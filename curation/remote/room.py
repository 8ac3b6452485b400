"""The size limit of a cache: entries reserve room before they grow, and the least recently used ones are evicted."""

from __future__ import annotations

import shutil
import time
from collections.abc import Iterator
from pathlib import Path

from helix4d.core import AssetError, ReasonCode, write_bytes
from helix4d.core.locks import file_lock

COMPLETE = "complete.json"
"""File of an entry that is written last; its modification time is the entry's last use."""
_RESERVED = "reserved"
_TOTAL = "total"
_POLL_S = 0.2
_EVICT_TO = 0.95
"""Fraction of the limit to evict down to: measuring tens of thousands of entries takes seconds and should be rare."""


class Room:
    """The room in a folder of entries, `XX/NAME/`, shared by all processes of a machine.

    Args:
        folder: folder of the entries.
        most_bytes: limit of all entries together.
    """

    def __init__(self, folder: Path, most_bytes: int) -> None:
        self._folder = folder
        self.most_bytes = most_bytes

    def take(self, entry: Path, needed: int) -> None:
        """Wait until the entry may take `needed` bytes in total, evicting the least recently used entries.

        Raises:
            AssetError: out_of_memory if the entry alone exceeds the cache's limit.
        """
        if needed > self.most_bytes:
            what = f"needs {needed:,} bytes, which exceeds the cache's limit of {self.most_bytes:,}: raise --cache-gb"
            raise AssetError(ReasonCode.OUT_OF_MEMORY, what)
        while not self._reserve(entry, needed):
            time.sleep(_POLL_S)

    def settle(self, entry: Path) -> None:
        """Count an entry by its files from now on, as it is complete."""
        (entry / _RESERVED).unlink(missing_ok=True)

    def is_overfull(self) -> bool:
        """Return whether the entries take more than the limit, as after it was lowered."""
        return self._total() > self.most_bytes

    def _reserve(self, entry: Path, needed: int) -> bool:
        with file_lock(self._folder / "room.lock"):
            own = _size(entry)
            others = self._total() - own
            if others + needed > self.most_bytes:
                others = self._evict_others(entry, needed)
            fits = others + needed <= self.most_bytes
            # Written before the entry grows: after a crash the total may be too large until the next count.
            write_bytes(self._folder / _TOTAL, str(others + (needed if fits else own)).encode())
            if fits:
                entry.mkdir(parents=True, exist_ok=True)
                write_bytes(entry / _RESERVED, str(needed).encode())
            return fits

    def _evict_others(self, entry: Path, needed: int) -> int:
        """Evict the least recently used other entries; returns the bytes that others still take."""
        others = [(used, size, folder) for used, size, folder in self._entries() if folder != entry]
        total = sum(size for _, size, _ in others)
        if total + needed <= self.most_bytes:
            return total
        for _, size, folder in sorted(others):
            if total + needed <= _EVICT_TO * self.most_bytes:
                break
            if _evict(folder):
                total -= size
        return total

    def _total(self) -> int:
        """Bytes of all entries (without the cache's own small files), as recorded; counted if there is no record."""
        try:
            return int((self._folder / _TOTAL).read_bytes())
        except (FileNotFoundError, ValueError):
            return sum(size for _, size, _ in self._entries())

    def _entries(self) -> Iterator[tuple[float, int, Path]]:
        """(last use, bytes, folder) of every entry, including reserved bytes."""
        for folder in self._folder.glob("??/*"):
            if folder.is_dir():
                yield _last_use(folder), _size(folder), folder


def entry_lock(folder: Path) -> Path:
    """The lock file beside an entry: held shared while the entry is used, exclusively while it is filled or evicted."""
    return folder.with_name(f"{folder.name}.lock")


def _evict(folder: Path) -> bool:
    """Remove an entry unless it is in use; returns whether it was removed."""
    try:
        with file_lock(entry_lock(folder), wait=False):
            (folder / COMPLETE).unlink(missing_ok=True)
            shutil.rmtree(folder, ignore_errors=True)
    except BlockingIOError:
        return False
    return True


def bytes_below(folder: Path) -> int:
    """Bytes of all files below a folder, some of which may vanish meanwhile."""
    total = 0
    for path in folder.rglob("*"):
        try:
            total += path.stat().st_size if path.is_file() else 0
        except FileNotFoundError:
            continue
    return total


def _size(folder: Path) -> int:
    """Bytes that an entry takes or has reserved."""
    return max(bytes_below(folder), _reserved(folder))


def _reserved(folder: Path) -> int:
    try:
        return int((folder / _RESERVED).read_bytes())
    except (FileNotFoundError, ValueError):
        return 0


def _last_use(folder: Path) -> float:
    for path in (folder / COMPLETE, folder):
        try:
            return path.stat().st_mtime
        except FileNotFoundError:
            continue
    return 0.0
