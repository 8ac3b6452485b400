"""Decodes the names of an archive's members.

A zip archive records only whether a name is UTF-8; all others are in the code page of the machine that packed it. The
encoding with which the most names occur in the files of the asset is chosen. Sources: PKWARE's APPNOTE 6.3.10,
appendix D, and Info-ZIP's Unicode Path extra field (0x7075).
"""

from __future__ import annotations

import json
import struct
import unicodedata
import zipfile
import zlib
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import islice
from urllib.parse import quote

_UTF8_FLAG = 0x800
_UNICODE_PATH = 0x7075
_ENCODINGS = (
    "utf-8",
    "cp437",
    "gb18030",
    "big5hkscs",
    "cp932",
    "cp949",
    "cp1252",
    "cp1251",
    "cp866",
    "cp1250",
    "cp850",
)
"""In order of preference if several fit equally well. Any bytes can be decoded as cp437, the format's own encoding."""
_FORMS: tuple[Callable[[str], str], ...] = (
    lambda name: name,
    lambda name: unicodedata.normalize("NFC", name),  # macOS stores decomposed names
    lambda name: unicodedata.normalize("NFD", name),
)
_MOST_COMPARED = 16


def member_names(members: Iterable[zipfile.ZipInfo], refers_to: Callable[[bytes], bool]) -> dict[int, str]:
    """Decode the names of the members of an archive.

    Args:
        members: members as `zipfile` lists them, read without `metadata_encoding`.
        refers_to: returns whether the asset in the archive contains the given bytes.

    Returns:
        Position of the member -> its name, with `/` between folders. A name that ends with `/` is a folder. The names
        are not validated: they may be unsafe as paths.
    """
    stated: dict[int, str] = {}
    unstated: dict[int, bytes] = {}
    for position, member in enumerate(members):
        name = _stated_name(member)
        if name is None:
            unstated[position] = member.orig_filename.encode("cp437")
        else:
            stated[position] = name
    names = _best([stated], refers_to) | _best(_decodings(unstated), refers_to)
    return {position: name.replace("\\", "/") for position, name in sorted(names.items())}


def _stated_name(member: zipfile.ZipInfo) -> str | None:
    """Return the name of a member if its encoding is known or the name is ASCII, else None."""
    name = member.orig_filename
    if member.flag_bits & _UTF8_FLAG or name.isascii():
        return name
    for kind, content in _extra_fields(member.extra):
        # Version 1, and the checksum of the replaced name: some programs rename members without updating the field.
        expected = struct.pack("<BL", 1, zlib.crc32(name.encode("cp437")))
        if kind == _UNICODE_PATH and content[:5] == expected:
            return content[5:].decode(errors="replace")
    return None


def _extra_fields(extra: bytes) -> Iterator[tuple[int, bytes]]:
    while len(extra) >= 4:
        kind, size = struct.unpack_from("<HH", extra)
        yield kind, extra[4 : 4 + size]
        extra = extra[4 + size :]


def _decodings(names: Mapping[int, bytes]) -> Iterator[dict[int, str]]:
    for encoding in _ENCODINGS:
        try:
            yield {position: name.decode(encoding) for position, name in names.items()}
        except UnicodeDecodeError:
            continue


def _best(readings: Iterable[dict[int, str]], refers_to: Callable[[bytes], bool]) -> dict[int, str]:
    """Return the reading with the most names that the asset refers to; the first if it refers to none."""
    best: dict[int, str] = {}
    most = -1
    for reading in readings:
        for form in _FORMS:
            names = {position: form(name) for position, name in reading.items()}
            found = sum(any(map(refers_to, _spellings(part))) for part in _telling_parts(names.values()))
            if found > most:
                best, most = names, found
    return best


def _telling_parts(names: Iterable[str]) -> list[str]:
    """Return up to 16 names of files and folders, without their paths, that depend on the encoding."""
    parts = (part for name in names if not name.isascii() for part in name.replace("\\", "/").split("/"))
    return list(islice(dict.fromkeys(part for part in parts if not part.isascii()), _MOST_COMPARED))


def _spellings(name: str) -> tuple[bytes, ...]:
    """Return a name as file formats write it, in UTF-8: plain, and escaped as in URIs and in JSON."""
    return name.encode(), quote(name).encode(), json.dumps(name)[1:-1].encode()
