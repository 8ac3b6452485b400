"""One shard's tar, read once and front to back, near or far: hashed as it comes, walked by its own headers.

What is held is the sample that is looked at and what was read ahead. What lies before that is asked for again, which
only shards need whose members are out of order.
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
"""Read at a time."""


@dataclass(frozen=True)
class Member:
    """A member as the tar's headers tell: data of `size` bytes at `offset`, behind the block `header`."""

    name: str
    offset: int
    size: int
    header: bytes

    @property
    def end(self) -> int:
        """Where the next header is."""
        return self.offset + self.size + (-self.size % BLOCK)


class TarWindow:
    """The bytes of a tar, of which a part is held.

    Args:
        folder: where it is.
        name: its name there.
    """

    def __init__(self, folder: Folder, name: str) -> None:
        self.size = folder.size(name)
        self._folder, self._name = folder, name
        self._start = 0
        self._held = bytearray()
        self._digest = hashlib.sha256()

    def read(self, offset: int, size: int) -> bytes:
        """Bytes from where the reading has come to, or a little further; shorter where the tar ends."""
        while self._start + len(self._held) < min(offset + size, self.size):
            self._read_on()
        return self.peek(offset, size)

    def peek(self, offset: int, size: int) -> bytes:
        """Bytes from anywhere; the reading does not move."""
        end = min(offset + size, self.size)
        if self._start <= offset and end <= self._start + len(self._held):
            return bytes(self._held[offset - self._start : end - self._start])
        return self._folder.read_ranges(self._name, [(offset, size)])[0]

    def forget(self, before: int) -> None:
        """Hold what comes from `before` on; what comes before that is not needed any more."""
        gone = min(max(before - self._start, 0), len(self._held))
        del self._held[:gone]
        self._start += gone

    def sha256(self) -> str:
        """Hex SHA-256 of the whole tar; reads it to its end."""
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
            raise FormatError(f"{where}: had {self.size} bytes, ends now at {place}: it changed while it was read")
        self._digest.update(block)
        self._held += block


class Walk:
    """The members of a tar in order, by its own headers.

    Args:
        tar: of the shard.
        starts: where the index has members begin, ascending: behind a damaged header, the walk goes on at the next.

    Attributes:
        breaks: where the headers could not be followed; complete when the walk is.
    """

    def __init__(self, tar: TarWindow, starts: Sequence[int]) -> None:
        self.breaks: list[str] = []
        self._tar, self._starts = tar, starts
        self._end: int | None = None

    def __iter__(self) -> Iterator[Member]:
        start, size, after = 0, self._tar.size, "at its start"
        while True:
            block = self._tar.read(start, BLOCK)
            if len(block) < BLOCK:
                self.breaks.append(f"the tar ends at byte {size}, {after}, without an end mark")
                return
            if not any(block):
                self._end = start
                return
            try:
                header = tarfile.TarInfo.frombuf(block, "utf-8", "surrogateescape")
            except tarfile.HeaderError as error:
                self.breaks.append(f"no member's header at byte {start}, {after} ({error})")
                following = bisect.bisect_right(self._starts, start)
                if following == len(self._starts):
                    return
                start = self._starts[following]
                continue
            member = Member(header.name, start + BLOCK, header.size, block)
            yield member
            if member.offset + member.size > size:
                self.breaks.append(f"the tar ends at byte {size}, inside {member.name}")
                return
            start, after = member.end, f"after {member.name}"

    def check_end(self) -> Iterator[str]:
        """What is wrong behind the end mark, where the walk came to one."""
        if self._end is None:
            return
        length, place = self._tar.size - self._end, self._end
        while block := self._tar.read(place, READ_BYTES):
            if any(block):
                yield f"the tar's end mark at byte {self._end} is followed by data"
                return
            place += len(block)
            self._tar.forget(place)
        expected = 2 * BLOCK + (-(self._end + 2 * BLOCK) % tarfile.RECORDSIZE)
        if length != expected:
            yield f"the tar's end mark has {length} bytes, expected {expected}"
