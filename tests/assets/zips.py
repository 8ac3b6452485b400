"""Writes zip archives that `zipfile` cannot write: arbitrary bytes as names, any compression method, any damage."""

from __future__ import annotations

import bz2
import lzma
import struct
import zlib
from dataclasses import dataclass

STORED, DEFLATED, DEFLATE64, BZIP2, LZMA, ZSTANDARD = 0, 8, 9, 12, 14, 93


@dataclass(frozen=True)
class Member:
    """A member: its name as stored, and what its headers say about its content."""

    name: bytes
    content: bytes
    method: int = STORED
    flags: int = 0
    extra: bytes = b""
    compressed: bytes | None = None
    size: int | None = None


def compress(content: bytes, method: int) -> bytes:
    if method == DEFLATED:
        deflate = zlib.compressobj(9, zlib.DEFLATED, -15)
        return deflate.compress(content) + deflate.flush()
    if method == BZIP2:
        return bz2.compress(content)
    if method == LZMA:
        properties = {"id": lzma.FILTER_LZMA1, "lc": 3, "lp": 0, "pb": 2, "dict_size": 1 << 16}
        data = lzma.compress(content, lzma.FORMAT_RAW, filters=[properties])
        return b"\x09\x04\x05\x00" + bytes([(2 * 5 + 0) * 9 + 3]) + struct.pack("<L", 1 << 16) + data
    return content


def zipped(*members: Member) -> bytes:
    """Return an archive with these members."""
    body, directory = b"", b""
    for one in members:
        data = compress(one.content, one.method) if one.compressed is None else one.compressed
        size = len(one.content) if one.size is None else one.size
        facts = struct.pack("<4H3L", one.flags, one.method, 0, 33, zlib.crc32(one.content), len(data), size)
        names = struct.pack("<2H", len(one.name), len(one.extra))
        directory += (
            b"PK\1\2" + struct.pack("<2H", 63, 63) + facts + names + struct.pack("<3H2L", 0, 0, 0, 0, len(body))
        )
        directory += one.name + one.extra
        body += b"PK\3\4" + struct.pack("<H", 63) + facts + names + one.name + one.extra + data
    end = struct.pack("<4H2LH", 0, 0, len(members), len(members), len(directory), len(body), 0)
    return body + directory + b"PK\5\6" + end


def start_of_data(archive: bytes, member: Member) -> int:
    """Return the position of a member's compressed data."""
    at = archive.index(b"PK\3\4" + archive[4:6])
    while archive[at + 30 : at + 30 + len(member.name)] != member.name:
        at = archive.index(b"PK\3\4", at + 4)
    return at + 30 + len(member.name) + len(member.extra)
