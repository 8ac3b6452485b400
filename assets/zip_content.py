"""Decompresses one member of a zip archive in pieces of bounded size.

`zipfile` decompresses bzip2 and LZMA without a bound, so 800 bytes can become a gigabyte in memory, and it reports
damage with a different exception for each method. Format: PKWARE's APPNOTE 6.3.10, sections 4.3.7 and 5.8.
"""

from __future__ import annotations

import bz2
import lzma
import struct
import zipfile
import zlib
from collections.abc import Iterator
from typing import BinaryIO, Protocol

_PIECE_BYTES = 1 << 20
_LARGEST_FILE = 1 << 60
_HEADER = struct.Struct("<4s5H3L2H")
_SIGNATURE = b"PK\x03\x04"
_NAMES = {
    **{1: "Shrink", 2: "Reduce", 3: "Reduce", 4: "Reduce", 5: "Reduce", 6: "Implode", 9: "Deflate64", 10: "PKWARE DCL"},
    **{16: "z/OS CMPSC", 18: "TERSE", 19: "LZ77", 20: "Zstandard", 93: "Zstandard", 94: "MP3", 95: "XZ", 96: "JPEG"},
    **{97: "WavPack", 98: "PPMd", 99: "AES"},
}
"""Names of the unsupported compression methods, by number."""


class BadMemberError(Exception):
    """A member cannot be decompressed; the message says why, without its name."""


def member_content(archive: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the content of a member, at most 1 MiB at a time.

    Args:
        archive: the open archive.
        member: member listed in its central directory.

    Raises:
        BadMemberError: if it is damaged, encrypted, or compressed with an unsupported method.
        OSError: if the archive cannot be read.
    """
    left = member.file_size
    checksum = 0
    for piece in _decompressed(archive, member):
        left -= len(piece)
        if left < 0:
            raise BadMemberError(f"is damaged (it has more than the {member.file_size:,} bytes that the archive lists)")
        checksum = zlib.crc32(piece, checksum)
        yield piece
    if left:
        found = member.file_size - left
        raise BadMemberError(f"is damaged (it has {found:,} bytes, but the archive lists {member.file_size:,})")
    if checksum != member.CRC:
        raise BadMemberError("is damaged (its checksum differs from the one in the archive)")


class _Decompressor(Protocol):
    """The interface of the decompressors of `bz2` and `lzma`."""

    @property
    def eof(self) -> bool: ...
    @property
    def needs_input(self) -> bool: ...
    def decompress(self, data: bytes, max_length: int = -1) -> bytes: ...


class _Deflate:
    """`zlib` with the interface of `bz2` and `lzma`."""

    def __init__(self) -> None:
        self._inner = zlib.decompressobj(-zlib.MAX_WBITS)

    @property
    def eof(self) -> bool:
        return self._inner.eof

    @property
    def needs_input(self) -> bool:
        return not self._inner.unconsumed_tail

    def decompress(self, data: bytes, max_length: int = -1) -> bytes:
        return self._inner.decompress(self._inner.unconsumed_tail + data, max_length)


def _decompressed(archive: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    compressed = _compressed(archive, member)
    if member.compress_type == zipfile.ZIP_STORED:
        yield from compressed
        return
    decompressor, data = _decompressor(member, compressed)
    while not decompressor.eof:
        try:
            piece = decompressor.decompress(data, _PIECE_BYTES)
        except (zlib.error, lzma.LZMAError, OSError, ValueError) as error:  # bz2 raises OSError
            raise BadMemberError(f"is damaged ({error})") from error
        if piece:
            yield piece
        data = b""
        # After a full piece, the decompressor may have more output although it asks for input.
        if decompressor.needs_input and not decompressor.eof and len(piece) < _PIECE_BYTES:
            data = next(compressed, b"")
            if not data and member.compress_type != zipfile.ZIP_LZMA:
                raise BadMemberError("is damaged (its compressed data is truncated)")
            if not data:
                return  # LZMA data may have no end marker; the caller checks the length


def _decompressor(member: zipfile.ZipInfo, compressed: Iterator[bytes]) -> tuple[_Decompressor, bytes]:
    """Return a new decompressor, and the first data for it."""
    if member.compress_type == zipfile.ZIP_DEFLATED:
        return _Deflate(), b""
    if member.compress_type == zipfile.ZIP_BZIP2:
        return bz2.BZ2Decompressor(), b""
    data = next(compressed, b"")  # version (2 bytes), size of the properties (2), properties (5)
    if len(data) < 9 or data[2:4] != b"\x05\x00" or data[4] >= 9 * 5 * 5:
        raise BadMemberError("is damaged (invalid LZMA properties)")
    rest, lc = divmod(data[4], 9)
    pb, lp = divmod(rest, 5)
    dictionary = int.from_bytes(data[5:9], "little")
    # A dictionary larger than the content is useless, but all of it would be allocated.
    size = max(min(dictionary, member.file_size), 4096)
    try:
        filters = [{"id": lzma.FILTER_LZMA1, "dict_size": size, "lc": lc, "lp": lp, "pb": pb}]
        return lzma.LZMADecompressor(lzma.FORMAT_RAW, filters=filters), data[9:]
    except (lzma.LZMAError, ValueError) as error:
        raise BadMemberError(f"is damaged ({error})") from error


def _compressed(archive: BinaryIO, member: zipfile.ZipInfo) -> Iterator[bytes]:
    """Yield the compressed data of a member, after checking its own header."""
    if member.flag_bits & 0x1:
        raise BadMemberError("is encrypted: repack the archive without a password")
    if member.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA):
        name = _NAMES.get(member.compress_type, "unknown")
        method = f"method {member.compress_type} ({name})"
        raise BadMemberError(f"is compressed with {method}, which is not supported: repack the archive with Deflate")
    if not 0 <= member.header_offset < _LARGEST_FILE:
        raise BadMemberError("is damaged (its header is missing)")
    archive.seek(member.header_offset)
    header = archive.read(_HEADER.size)
    if len(header) < _HEADER.size or not header.startswith(_SIGNATURE):
        raise BadMemberError("is damaged (its header is missing)")
    _, _, flags, method, *_, name_bytes, extra_bytes = _HEADER.unpack(header)
    if method != member.compress_type or flags & 0x1:
        raise BadMemberError("is damaged (its header contradicts the archive's directory)")
    archive.seek(name_bytes + extra_bytes, 1)
    left = member.compress_size
    while left > 0:
        data = archive.read(min(left, _PIECE_BYTES))
        if not data:
            raise BadMemberError("is damaged (the archive is truncated)")
        left -= len(data)
        yield data
