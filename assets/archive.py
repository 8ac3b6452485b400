"""Unpacks a zip archive that contains exactly one asset into a temporary folder.

Archives are untrusted: names that leave the folder, links and encrypted members are refused, and sizes are checked
before anything is unpacked. An archive that contains only another archive is unpacked one level further. In a .usdz,
the asset is the first member. If several members have the same name, the last is used, as in unzip.
"""

from __future__ import annotations

import errno
import stat
import struct
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from helix4d.assets.limits import Limits
from helix4d.assets.sequence import is_sequence
from helix4d.assets.zip_content import BadMemberError, member_content
from helix4d.assets.zip_names import member_names
from helix4d.core import AssetError, ReasonCode
from helix4d.core.messages import path_end, reason
from helix4d.core.scratch import scratch_folder
from helix4d.core.storage import is_fault

ARCHIVES = frozenset({".zip", ".usdz"})
ASSETS = frozenset({".glb", ".gltf", ".fbx", ".dae", ".abc", ".usd", ".usda", ".usdc", ".usdz", ".blend"})
_USD = frozenset({".usd", ".usda", ".usdc"})
_NAMING_FILES = ASSETS | {".obj", ".mtl"}
"""Suffixes of files whose content refers to other members."""
_OTHER_ARCHIVES = frozenset({".7z", ".rar", ".tar", ".gz", ".tgz"})
_MAX_MEMBERS = 20_000
_MAX_LEVELS = 2
_SEARCHED_BYTES = 1 << 26
_INVALID_NAMES = frozenset({errno.ENAMETOOLONG, errno.ENOTDIR, errno.EISDIR, errno.EINVAL, errno.EILSEQ})
"""Errors on creating a file that are caused by its name."""


@contextmanager
def single_asset(path: Path, limits: Limits) -> Iterator[tuple[Path, Path]]:
    """Provide the asset in a file and the folder that its references must not leave, while the block runs.

    The asset of a file that is not an archive is the file itself.

    Raises:
        AssetError: invalid_archive, uri_outside_asset, out_of_memory.
        OSError: if storage fails, such as a full temporary folder.
    """
    if path.suffix.lower() not in ARCHIVES or path.is_dir():
        yield path, path if path.is_dir() else path.parent
        return
    with scratch_folder("helix4d-archive-") as root:
        yield _unpack(path, root, limits, _MAX_LEVELS), root


def _unpack(path: Path, root: Path, limits: Limits, levels: int) -> Path:
    """Unpack an archive into a folder of its own below `root`, and return the asset in it."""
    folder = root / f"level {levels}"
    folder.mkdir()
    names = _unpack_members(path, folder, limits)
    if path.suffix.lower() == ".usdz":
        if not names or PurePosixPath(names[0]).suffix.lower() not in _USD:
            raise AssetError(ReasonCode.INVALID_ARCHIVE, "the first member of a .usdz must be a USD file", path)
        return folder / names[0]
    assets = _candidates(names)
    inner = [name for name in names if PurePosixPath(name).suffix.lower() == ".zip"]
    if not assets and len(inner) == 1 and levels > 1:
        return _unpack(folder / inner[0], root, limits, levels - 1)
    if len(assets) != 1:
        found = f"{len(assets)} ({', '.join(assets[:5])})" if assets else "none"
        others = [name for name in names if PurePosixPath(name).suffix.lower() in _OTHER_ARCHIVES]
        hint = f" ({others[0]} is not supported: repack it as .zip)" if others and not assets else ""
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"must contain exactly one asset, found {found}{hint}", path)
    asset = folder / assets[0]
    if asset.suffix.lower() == ".usdz":
        return _unpack(asset, root, limits, levels - 1)
    return asset


def _unpack_members(path: Path, folder: Path, limits: Limits) -> list[str]:
    """Write the files of an archive into `folder`, and return their names in the archive's order."""
    try:
        stream = open(path, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        if is_fault(error):
            raise
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"cannot be read ({error.strerror})", path) from error
    with stream:
        members = _files(stream, path, limits)
        for name, member in members.items():
            _write(_content(stream, member, name, path), folder, name, path)
    return list(members)


def _files(stream: BinaryIO, path: Path, limits: Limits) -> dict[str, zipfile.ZipInfo]:
    """Return the files to unpack by their names, after checking all members."""
    try:
        members = zipfile.ZipFile(stream).infolist()
    except (zipfile.BadZipFile, ValueError, NotImplementedError, OverflowError, EOFError, struct.error) as error:
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"cannot be read ({reason(error)})", path) from error
    except OSError as error:
        if is_fault(error):
            raise
        # Offsets of damaged archives lie before the start of the file.
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"cannot be read ({reason(error)})", path) from error
    _check_extent(members, path, limits)
    searched = b"" if all(member.filename.isascii() for member in members) else _naming_content(stream, members)
    names = member_names(members, lambda spelling: spelling.lower() in searched)
    files = {}
    for position, member in enumerate(members):
        name = names[position]
        _check(member, name, path)
        if not name.endswith("/") and not _is_hidden(name):
            files[str(PurePosixPath(name))] = member
    return files


def _check_extent(members: list[zipfile.ZipInfo], path: Path, limits: Limits) -> None:
    if len(members) > _MAX_MEMBERS:
        message = f"has {len(members):,} members, more than the limit of {_MAX_MEMBERS:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)
    total = sum(member.file_size for member in members)
    if total > limits.file_bytes:
        message = f"unpacks to {total:,} bytes, more than the limit of {limits.file_bytes:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)


def _check(member: zipfile.ZipInfo, name: str, path: Path) -> None:
    """Check that a member is safe to unpack."""
    link = stat.S_ISLNK(member.external_attr >> 16)
    if link or name.startswith("/") or ".." in name.split("/") or any(character in name for character in "\0:"):
        message = f"the member {path_end(name)!r} is a link or would be unpacked outside the archive's folder"
        raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)


def _naming_content(stream: BinaryIO, members: list[zipfile.ZipInfo]) -> bytes:
    """Return the content of members that refer to others, in lower case; damaged ones are reported when unpacked."""
    content = bytearray()
    for member in members:
        if PurePosixPath(member.filename).suffix.lower() not in _NAMING_FILES:
            continue
        try:
            for piece in member_content(stream, member):
                content += piece
                if len(content) >= _SEARCHED_BYTES:
                    return bytes(content).lower()
        except BadMemberError:
            continue
    return bytes(content).lower()


def _content(stream: BinaryIO, member: zipfile.ZipInfo, name: str, path: Path) -> Iterator[bytes]:
    try:
        yield from member_content(stream, member)
    except BadMemberError as error:
        message = f"the member {path_end(name)!r} {error}"
        raise AssetError(ReasonCode.INVALID_ARCHIVE, message, path) from error


def _write(content: Iterator[bytes], folder: Path, name: str, path: Path) -> None:
    target = folder / name
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        with open(target, "xb") as written:
            for piece in content:
                written.write(piece)
    except FileExistsError as error:  # the name of this member is the folder of another
        message = f"the member {path_end(name)!r} is both a file and a folder"
        raise AssetError(ReasonCode.INVALID_ARCHIVE, message, path) from error
    except (OSError, ValueError) as error:
        if isinstance(error, OSError) and error.errno not in _INVALID_NAMES:
            raise OSError(error.errno, error.strerror, str(target)) from error  # a full disk's error has no file name
        message = f"the member {path_end(name)!r} does not have a valid file name"
        raise AssetError(ReasonCode.INVALID_ARCHIVE, message, path) from error


def _is_hidden(name: str) -> bool:
    """Return whether a member is a hidden file, or metadata added by macOS."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _candidates(names: list[str]) -> list[str]:
    """Return the names of all assets: files, and folders of numbered .obj files."""
    files = [name for name in names if PurePosixPath(name).suffix.lower() in ASSETS]
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(PurePosixPath(name).name)
    return sorted(files) + sorted(folder for folder, inside in folders.items() if is_sequence(inside))
