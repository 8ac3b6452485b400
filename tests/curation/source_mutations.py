"""Damages assets of every format but glTF: references, numbers, block headers, zip records, and bytes.

A mutant is determined by the seed and its number.
"""

from __future__ import annotations

import io
import re
import shutil
import stat
import struct
import zipfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from helix4d.core.rng import generator
from tests.curation.source_files import KINDS, LONG

FORMATS = (*KINDS, "usdc", "usdz", "zip")
_TEXT = frozenset({".obj", ".mtl", ".dae", ".usda"})
_NUMBER = re.compile(rb"(?<![\w.])-?\d+(?:\.\d+)?(?:[eE][-+]?\d+)?")
_NUMBERS = (b"nan", b"inf", b"-inf", b"1e400", b"-1", b"2147483648", b"9223372036854775808", b"1e38", b"1e-320", b"")
_WORDS = (b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80", b"\0\0\xc0\x7f", b"\0\0\x80\x7f", bytes(4))
_REFERENCE = re.compile(rb'[^\0"<>@\s]*' + LONG.encode() + rb"\.(png|mtl|usda|blend)")
_COLLADA_URL = re.compile(rb'(?:url|source|target)="(?=#)')
_UP = 5
"""Folders between an unpacked archive and the folder of the baits: see `fuzz_sources.py`."""


@dataclass(frozen=True)
class SourceMutant:
    """A damaged asset.

    Attributes:
        path: the file, or the folder of numbered .obj files.
        operations: what was done, in order.
    """

    path: Path
    operations: tuple[str, ...]


def write_mutant(sources: Path, baits: Path, folder: Path, seed: int, number: int) -> SourceMutant:
    """Write mutant `number` of the series `seed` into `folder`, which must not exist.

    Args:
        sources: what `write_sources` wrote.
        baits: what `write_baits` wrote; references are made to lead there.
        folder: the mutant's folder; `baits` must be a sibling of its parent.
        seed: names the series.
        number: names the mutant.
    """
    random = generator(seed, "source mutant", number)
    form = FORMATS[number % len(FORMATS)]
    kind = KINDS[random.integers(len(KINDS))] if form == "zip" else form if form in KINDS else "usda"
    shutil.copytree(sources / kind, folder)
    done = [_damage_file(folder, baits, random) for _ in range(random.integers(1, 4))]
    if form == "usdc":
        done.append(_compile_usd(folder, random))
    if form in ("zip", "usdz"):
        done += _pack(folder, form, baits, random)
    path = folder if form == "obj" else next(iter(folder.glob("asset.*")))
    return SourceMutant(path, tuple(done))


def _damage_file(folder: Path, baits: Path, random: np.random.Generator) -> str:
    files = sorted(path for path in folder.iterdir() if path.suffix in (".blend", ".fbx", *_TEXT))
    main = [path for path in files if path.stem == "asset"] or files
    path = _pick(random, main if random.random() < 0.8 else files)
    data = path.read_bytes()
    operations: list[Callable[[bytes, np.random.Generator], bytes]] = [_flip, _cut, _blank, _repeat]
    operations += (
        [_change_number, _change_number, _change_line] if path.suffix in _TEXT else [_change_word, _change_word]
    )
    if path.suffix == ".blend":
        operations += [_change_block]
    if path.suffix == ".dae":
        operations += [_lead_url_outside(baits)]
    if path.suffix != ".mtl" or LONG.encode() in data:
        operations += [_lead_outside(baits, path.suffix)] * len(operations)  # half of all
    operation = _pick(random, operations)
    path.write_bytes(operation(data, random))
    return f"{path.name.replace(LONG, '')}: {operation.__name__.strip('_')}"


# --- operations on the bytes of one file ---


def _flip(data: bytes, random: np.random.Generator) -> bytes:
    changed = bytearray(data)
    for at in random.integers(len(data), size=random.integers(1, 9)) if data else ():
        changed[at] = random.integers(256)
    return bytes(changed)


def _cut(data: bytes, random: np.random.Generator) -> bytes:
    return data[: random.integers(len(data) + 1)]


def _blank(data: bytes, random: np.random.Generator) -> bytes:
    at, size = random.integers(len(data) + 1), random.integers(1, 512)
    return data[:at] + bytes(min(size, len(data) - at)) + data[at + size :]


def _repeat(data: bytes, random: np.random.Generator) -> bytes:
    at, size = random.integers(len(data) + 1), random.integers(1, 4096)
    return data[:at] + data[at : at + size] * random.integers(1, 200) + data[at:]


def _change_word(data: bytes, random: np.random.Generator) -> bytes:
    """Replace four aligned bytes by an extreme integer or float."""
    at = 4 * random.integers(max(len(data) // 4, 1))
    return data[:at] + _pick(random, _WORDS) + data[at + 4 :]


def _change_number(data: bytes, random: np.random.Generator) -> bytes:
    numbers = list(_NUMBER.finditer(data))
    if not numbers:
        return data
    found = _pick(random, numbers)
    return data[: found.start()] + _pick(random, _NUMBERS) + data[found.end() :]


def _change_line(data: bytes, random: np.random.Generator) -> bytes:
    lines = data.split(b"\n")
    at = random.integers(len(lines))
    lines[at : at + 1] = [lines[at]] * _pick(random, (0, 2, 50_000))
    return b"\n".join(lines)


def _change_block(data: bytes, random: np.random.Generator) -> bytes:
    """Change the code, length, type or count in the header of a block of an uncompressed .blend file."""
    starts, at = [], 12
    while at + 24 <= len(data):
        starts.append(at)
        at += 24 + max(struct.unpack_from("<i", data, at + 4)[0], 0)
    at = _pick(random, starts or [0]) + _pick(random, (0, 4, 16, 20))
    return data[:at] + _pick(random, (*_WORDS, struct.pack("<i", random.integers(1000)))) + data[at + 4 :]


def _lead_outside(baits: Path, suffix: str) -> Callable[[bytes, np.random.Generator], bytes]:
    """Let a reference of the file lead to a bait, by an absolute or a climbing path."""

    def lead_outside(data: bytes, random: np.random.Generator) -> bytes:
        references = list(_REFERENCE.finditer(data))
        if not references:
            return data
        found = _pick(random, references)
        target = _bait(baits, found[1].decode(), random)
        length = len(found[0])
        if suffix in (".blend", ".fbx") and len(target) + 2 > length:
            return data  # the name of the temporary folder is too long to fit
        if suffix == ".blend":  # an array of fixed length
            prefix = b"//" if target.startswith(b"..") else b""
            target = (prefix + target).ljust(length, b"\0")
        elif suffix == ".fbx":
            target = target.replace(b"/", b"/" * (1 + length - len(target)), 1)
        return data[: found.start()] + target + data[found.end() :]

    return lead_outside


def _lead_url_outside(baits: Path) -> Callable[[bytes, np.random.Generator], bytes]:
    def lead_url_outside(data: bytes, random: np.random.Generator) -> bytes:
        urls = list(_COLLADA_URL.finditer(data))
        if not urls:
            return data
        at = _pick(random, urls).end()
        return data[:at] + _pick(random, (b"", b"file://")) + _bait(baits, "dae", random) + data[at:]

    return lead_url_outside


def _bait(baits: Path, suffix: str, random: np.random.Generator) -> bytes:
    inside = f"{baits.name}/bait.{suffix}"
    return _pick(random, (str(baits.parent / inside), f"../../{inside}", "../" * _UP + inside)).encode()


# --- the forms that are made from others ---


def _compile_usd(folder: Path, random: np.random.Generator) -> str:
    """Turn the text into binary USD, if it is still USD, and damage its bytes in a third of the cases."""
    from pxr import Sdf, Tf

    text, compiled = folder / "asset.usda", folder / "asset.usdc"
    try:
        Sdf.Layer.FindOrOpen(str(text)).Export(str(compiled))
    except (Tf.ErrorException, AttributeError):
        text.rename(compiled)
        return "text as .usdc"
    text.unlink()
    if random.random() < 0.67:
        return "compiled"
    operation = _pick(random, (_flip, _cut, _blank, _repeat, _change_word))
    compiled.write_bytes(operation(compiled.read_bytes(), random))
    return f"compiled: {operation.__name__.strip('_')}"


def _pack(folder: Path, form: str, baits: Path, random: np.random.Generator) -> list[str]:
    """Pack the folder's files into an archive, and damage that in half of the cases."""
    files = sorted(folder.iterdir(), key=lambda path: (path.stem != "asset", path.name))
    data, done = io.BytesIO(), []
    method = zipfile.ZIP_STORED if form == "usdz" else _pick(random, (0, 8, 12, 14))
    with zipfile.ZipFile(data, "w", method) as archive:
        for path in files:
            archive.write(path, f"sequence/{path.name}" if path.suffix in (".obj", ".mtl") else path.name)
        if random.random() < 0.3:
            done.append(_add_member(archive, baits, random))
    for path in files:
        path.unlink()
    content = data.getvalue()
    if random.random() < 0.5:
        operation = _pick(random, (_flip, _cut, _blank, _change_record, _change_record, _change_record))
        content = operation(content, random)
        done.append(f"archive: {operation.__name__.strip('_')}")
    (folder / f"asset.{form}").write_bytes(content)
    return done


def _add_member(archive: zipfile.ZipFile, baits: Path, random: np.random.Generator) -> str:
    """Add a member that would be unpacked outside the archive, itself or through a link."""
    target = _bait(baits, "png", random).decode()
    kind = random.integers(3)
    if kind == 0:
        archive.writestr(zipfile.ZipInfo(target), b"overwritten")
        return f"member {'/' if target.startswith('/') else '../'}"
    link = zipfile.ZipInfo("link")
    link.create_system, link.external_attr = 3, (stat.S_IFLNK | 0o777) << 16
    archive.writestr(link, target if kind == 1 else str(Path(target).parent))
    if kind == 2:
        archive.writestr("link/bait.png", b"overwritten")
    return "link"


def _change_record(data: bytes, random: np.random.Generator) -> bytes:
    """Change a field of a local header, a directory entry or the end record of an archive."""
    sizes = {b"PK\3\4": 30, b"PK\1\2": 46, b"PK\5\6": 22}
    records = list(re.finditer(b"PK(?:\x03\x04|\x01\x02|\x05\x06)", data))
    if not records:
        return data
    record = _pick(random, records)
    at = record.start() + 2 * random.integers(2, sizes[record[0]] // 2)
    value = _pick(random, (b"\xff\xff", b"\0\0", b"\0\x80", b"\1\0", random.bytes(2)))
    return data[:at] + value + data[at + 2 :]


def _pick(random: np.random.Generator, choices: Sequence[Any]) -> Any:
    return choices[int(random.integers(len(choices)))]
