"""Reads the version of a .blend file and the .blend files that it links to, without Blender.

Blender would open the linked files when it opens the file.
A file is a sequence of blocks. One of them, DNA1, describes the memory layout of the others (Blender's
doc/blender_file_format).
"""

from __future__ import annotations

import gzip
import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass
from pathlib import Path
from typing import IO, cast

from helix4d.core import AssetError, ReasonCode
from helix4d.core.storage import is_fault

_HEADER = re.compile(rb"BLENDER([_-])([vV])\d{3}")
_VERSION = re.compile(rb"BLENDER(?:[_-][vV](\d)(\d\d)|\d\d-\d\dv(\d\d)(\d\d))")
"""Version in the headers of Blender up to 4, such as `BLENDER-v402`, and from 5, such as `BLENDER17-01v0500`."""
SAVE_AGAIN = "open it in that version and export glTF"
_GZIP, _ZSTD = b"\x1f\x8b", b"\x28\xb5\x2f\xfd"
_MOST_BYTES = 1 << 22
"""Size limit of the two kinds of blocks that are read; those of Blender 4.2 have 2 and 130 KB."""
_COMPUTED = "filepath_abs"
"""Member of a library that Blender computes from the others."""
_CHUNK = 1 << 20


@dataclass(frozen=True)
class _Format:
    """Size of a pointer in bytes, and byte order as in `struct`."""

    pointer: int
    order: str

    def unpack(self, layout: str, data: bytes, at: int = 0) -> tuple[int, ...]:
        return struct.unpack_from(self.order + layout, data, at)


def newer_version(path: Path, running: tuple[int, int, int]) -> str | None:
    """Return the message about a file that was written by a newer Blender than the running one; None for others.

    Blender reads files of newer versions up to the next major one, whose header differs.

    Raises:
        AssetError: unsupported_version if it cannot read this one.
    """
    import zstandard

    try:
        with closing(_opened(path)) as stream:
            match = _VERSION.match(stream.read(17))
    except (OSError, EOFError, zstandard.ZstdError, zlib.error) as error:
        if is_fault(error):
            raise
        return None  # not a Blender file, which `linked_files` reports
    if match is None:
        return None
    major, minor = (int(digits) for digits in match.groups() if digits is not None)
    if (major, minor) <= running[:2]:
        return None
    message = f"was written by a newer Blender ({major}.{minor}; this is {running[0]}.{running[1]})"
    if major > running[0]:
        raise AssetError(ReasonCode.UNSUPPORTED_VERSION, f"{message}: {SAVE_AGAIN}", path)
    return message


def linked_files(path: Path) -> list[Path]:
    """Return the .blend files that a .blend file links to, in order; those need not exist.

    Raises:
        ValueError: if the file is not a .blend file, or is damaged.
        OSError: if it cannot be read.
    """
    import zstandard

    libraries: list[tuple[int, bytes]] = []
    layout: Mapping[int, list[tuple[int, int]]] | None = None
    with closing(_opened(path)) as stream:
        try:
            form = _read_header(stream)
            for code, number, data in _blocks(stream, form):
                if code == b"LI\0\0":
                    libraries.append((number, data))
                elif layout is None:
                    layout = _layout(data, form)
        except (EOFError, struct.error, zstandard.ZstdError, zlib.error, IndexError, gzip.BadGzipFile) as error:
            raise ValueError(f"its blocks are damaged ({error})") from error
    found = []
    for number, data in libraries:
        if layout is None or number not in layout:
            raise ValueError("a library block does not have the type Library")
        for start, size in layout[number]:
            text = data[start : start + size].partition(b"\0")[0].decode(errors="surrogateescape").replace("\\", "/")
            if text:
                found.append(path.parent / (text[2:] if text.startswith("//") else text))
    return found


def _opened(path: Path) -> IO[bytes]:
    with open(path, "rb") as stream:
        start = stream.read(4)
    if start.startswith(_GZIP):
        return cast("IO[bytes]", gzip.open(path))
    if start == _ZSTD:
        import zstandard

        compressed = open(path, "rb")  # noqa: SIM115 (the reader closes it)
        return cast("IO[bytes]", zstandard.ZstdDecompressor().stream_reader(compressed, read_across_frames=True))
    return open(path, "rb")


def _read_header(stream: IO[bytes]) -> _Format:
    match = _HEADER.fullmatch(_exactly(stream, 12))
    if match is None:
        raise ValueError("it does not start with a header of Blender 4 or older")
    return _Format(4 if match[1] == b"_" else 8, "<" if match[2] == b"v" else ">")


def _blocks(stream: IO[bytes], form: _Format) -> Iterator[tuple[bytes, int, bytes]]:
    """Yield code, number of the structure, and data of the blocks that matter here."""
    size = 16 + form.pointer
    while True:
        head = _exactly(stream, size)
        code, (length,) = head[:4], form.unpack("i", head, 4)
        (number,) = form.unpack("i", head, 8 + form.pointer)
        if code == b"ENDB":
            return
        if length < 0:
            raise ValueError("a block has a negative length")
        if code not in (b"LI\0\0", b"DNA1"):
            _skip(stream, length)
        elif length > _MOST_BYTES:
            raise ValueError(f"the block {code!r} has {length:,} bytes, more than any that Blender writes")
        else:
            yield code, number, _exactly(stream, length)


def _layout(data: bytes, form: _Format) -> dict[int, list[tuple[int, int]]]:
    """Return where Library structures hold file paths: number of the structure -> offset and bytes of each path."""
    at = 4
    names, at = _texts(data, b"NAME", at, form)
    types, at = _texts(data, b"TYPE", at, form)
    at = _expect(data, b"TLEN", at)
    sizes = form.unpack(f"{len(types)}H", data, at)
    at = _expect(data, b"STRC", at + 2 * len(types))
    (count,) = form.unpack("I", data, at)
    at += 4
    layout: dict[int, list[tuple[int, int]]] = {}
    for number in range(count):
        kind, members = form.unpack("2H", data, at)
        fields = form.unpack(f"{2 * members}H", data, at + 4)
        at += 4 + 4 * members
        if types[kind] == "Library":
            pairs = zip(fields[::2], fields[1::2], strict=True)
            layout[number] = list(_paths([(types[t], sizes[t], names[n]) for t, n in pairs], form))
    return layout


def _paths(members: list[tuple[str, int, str]], form: _Format) -> Iterator[tuple[int, int]]:
    at = 0
    for kind, size, name in members:
        dimensions = [int(number) for number in re.findall(r"\[(\d+)\]", name)]
        size = form.pointer if name.startswith(("*", "(*")) else size
        for number in dimensions:
            size *= number
        if kind == "char" and dimensions and not name.startswith(("*", _COMPUTED)):
            yield at, size
        at += size


def _texts(data: bytes, code: bytes, at: int, form: _Format) -> tuple[list[str], int]:
    at = _expect(data, code, at)
    (count,) = form.unpack("I", data, at)
    *texts, _ = data[at + 4 :].split(b"\0", count)
    if len(texts) < count:
        raise ValueError("its DNA1 block is damaged")
    return [text.decode("ascii", "replace") for text in texts], at + 4 + sum(len(text) + 1 for text in texts)


def _expect(data: bytes, code: bytes, at: int) -> int:
    """Return the offset after a code, which is aligned to four bytes."""
    at = (at + 3) // 4 * 4
    if data[at : at + 4] != code:
        raise ValueError("its DNA1 block is damaged")
    return at + 4


def _exactly(stream: IO[bytes], size: int) -> bytes:
    data = stream.read(size)
    if len(data) < size:
        raise EOFError("the file is truncated")
    return data


def _skip(stream: IO[bytes], size: int) -> None:
    while size > 0:
        size -= len(_exactly(stream, min(size, _CHUNK)))
