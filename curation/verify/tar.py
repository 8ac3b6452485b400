"""Reads a shard's tar once, front to back, from a folder or URL: hashes it and walks its headers.

Only the current sample and what was read ahead is kept in memory. Earlier bytes are read again on demand, which happens
only in shards whose members are out of order.
"""

from __future__ import annotations

import bisect
import hashlib
import tarfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from helix4d.core import FormatError
from helix4d.curation.places.folder import Folder

BLOCK = tarfile.BLOCKSIZE
READ_BYTES = 8 << 20
"""Bytes per read."""
_MOST_BYTES = 1 << 30
"""Largest member: a member is held in memory while it is checked."""


@dataclass(frozen=True)
class Member:
    """A member according to the tar's headers: `size` bytes of data at `offset`, after the block `header`."""

    name: str
    offset: int
    size: int
    header: bytes

    @property
    def end(self) -> int:
        """Offset of the next header."""
        return self.offset + self.size + (-self.size % BLOCK)


class TarWindow:
    """The bytes of a tar, with a sliding window of them in memory.

    Args:
        folder: folder or URL of the tar.
        name: its name in the folder.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.size = folder.size(name)
        self._folder, self._name = folder, name
        self._start = 0
        self._held = bytearray()
        self._digest = hashlib.sha256()

    def read(self, offset: int, size: int) -> bytes:
        """Return bytes at or after the current position, and advance it as needed. Shorter at the end of the tar."""
        while self._start + len(self._held) < min(offset + size, self.size):
            self._read_on()
        return self.peek(offset, size)

    def peek(self, offset: int, size: int) -> bytes:
        """Return bytes from anywhere, without advancing the position."""
        end = min(offset + size, self.size)
        if self._start <= offset and end <= self._start + len(self._held):
            return bytes(self._held[offset - self._start : end - self._start])
        return self._folder.read_ranges(self._name, [(offset, size)])[0]

    def forget(self, before: int) -> None:
        """Release the bytes before an offset."""
        released = min(max(before - self._start, 0), len(self._held))
        del self._held[:released]
        self._start += released

    def sha256(self) -> str:
        """Return the hex SHA-256 of the whole tar, after reading it to its end."""
        self.forget(self.size)
        while self._start < self.size:
            self._read_on()
            self.forget(self.size)
        return self._digest.hexdigest()

    def _read_on(self) -> None:
        place = self._start + len(self._held)
        block = self._folder.read_ranges(self._name, [(place, min(READ_BYTES, self.size - place))])[0]
        if not block:
            where = self._folder.address(self._name)
            raise FormatError(
                f"{where}: had {self.size} bytes, but now ends at byte {place}: it was changed while being read"
            )
        self._digest.update(block)
        self._held += block


class Walk:
    """The members of a tar in order, according to its headers.

    Args:
        tar: tar of the shard.
        starts: offsets of the members' headers according to the index, ascending. After a damaged header, the walk
            continues at the next of them.

    Attributes:
        breaks: places where the headers could not be followed; complete at the end of the walk.
    """

    def __init__(self, tar: TarWindow, starts: Sequence[int]) -> None:
        self.breaks: list[str] = []
        self._tar, self._starts = tar, starts
        self._end: int | None = None

    def __iter__(self) -> Iterator[Member]:
        start, size, after = 0, self._tar.size, "at the start"
        while True:
            block = self._tar.read(start, BLOCK)
            if len(block) < BLOCK:
                self.breaks.append(f"ends at byte {size}, {after}, without an end mark")
                return
            if not any(block):
                self._end = start
                return
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                self.breaks.append(f"invalid tar header at byte {start}, {after} ({error})")
                following = bisect.bisect_right(self._starts, start)
                if following == len(self._starts):
                    return
                start = self._starts[following]
                continue
            if not 0 <= header.size <= _MOST_BYTES:
                self.breaks.append(f"the tar header at byte {start} announces {header.size} bytes: at most 1 GiB")
                return
            member = Member(header.name, start + BLOCK, header.size, block)
            yield member
            if member.offset + member.size > size:
                self.breaks.append(f"ends at byte {size}, inside {member.name}")
                return
            start, after = member.end, f"after {member.name}"

    def check_end(self) -> Iterator[str]:
        """Check the end mark and what follows it, if the walk reached one."""
        if self._end is None:
            return
        length, place = self._tar.size - self._end, self._end
        while block := self._tar.read(place, READ_BYTES):
            if any(block):
                yield f"data follows the end mark at byte {self._end}"
                return
            place += len(block)
            self._tar.forget(place)
        expected = 2 * BLOCK + (-(self._end + 2 * BLOCK) % tarfile.RECORDSIZE)
        if length != expected:
            yield f"the end mark has {length} bytes, expected {expected}"
