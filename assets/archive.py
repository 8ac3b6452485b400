"""Unpacks a zip archive that contains exactly one asset into a temporary folder.

Archives are untrusted: names that leave the folder, links and encrypted members are refused, and sizes are checked
before anything is unpacked. An archive that contains only another archive is unpacked one level further. In a .usdz,
the asset is the first member.
"""

from __future__ import annotations

import lzma
import shutil
import stat
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath

from helix4d.assets.limits import Limits
from helix4d.assets.sequence import is_sequence
from helix4d.core import AssetError, ReasonCode
from helix4d.core.scratch import scratch_folder

ARCHIVES = frozenset({".zip", ".usdz"})
ASSETS = frozenset({".glb", ".gltf", ".fbx", ".dae", ".abc", ".usd", ".usda", ".usdc", ".usdz", ".blend"})
_USD = frozenset({".usd", ".usda", ".usdc"})
_MAX_MEMBERS = 20_000
_MAX_LEVELS = 2


@contextmanager
def single_asset(path: Path, limits: Limits) -> Iterator[tuple[Path, Path]]:
    """Provide the asset in a file and the folder that its references must not leave, while the block runs.

    The asset of a file that is not an archive is the file itself.

    Raises:
        AssetError: invalid_archive, uri_outside_asset, out_of_memory.
    """
    if path.suffix.lower() not in ARCHIVES or path.is_dir():
        yield path, path if path.is_dir() else path.parent
        return
    with scratch_folder("helix4d-archive-") as root:
        yield _unpack(path, root, limits, _MAX_LEVELS), root


def _unpack(path: Path, folder: Path, limits: Limits, levels: int) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked(archive, path, limits)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "xb") as written:
                    shutil.copyfileobj(source, written)
    except (
        *(zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, NotImplementedError, ValueError, OSError),
    ) as error:
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"cannot be unpacked ({str(error)[:200]})", path) from error
    names = [member.filename for member in members]
    if path.suffix.lower() == ".usdz":
        if not names or PurePosixPath(names[0]).suffix.lower() not in _USD:
            raise AssetError(ReasonCode.INVALID_ARCHIVE, "the first member of a .usdz must be a USD file", path)
        return folder / names[0]
    assets = _candidates(names)
    inner = [name for name in names if PurePosixPath(name).suffix.lower() == ".zip"]
    if not assets and len(inner) == 1 and levels > 1:
        return _unpack(folder / inner[0], folder / "inner archive", limits, levels - 1)
    if len(assets) != 1:
        found = f"{len(assets)} ({', '.join(assets[:5])})" if assets else "none"
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"must contain exactly one asset, found {found}", path)
    asset = folder / assets[0]
    if asset.suffix.lower() == ".usdz":
        return _unpack(asset, folder / "inner archive", limits, 1)
    return asset


def _checked(archive: zipfile.ZipFile, path: Path, limits: Limits) -> list[zipfile.ZipInfo]:
    """Check that all members are safe to unpack, and return those that are files."""
    everything = archive.infolist()
    if len(everything) > _MAX_MEMBERS:
        message = f"has {len(everything):,} members, more than the limit of {_MAX_MEMBERS:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)
    total = sum(member.file_size for member in everything)
    if total > limits.file_bytes:
        message = f"unpacks to {total:,} bytes, more than the limit of {limits.file_bytes:,}"
        raise AssetError(ReasonCode.OUT_OF_MEMORY, message, path)
    for member in everything:
        name = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        # orig_filename, because zipfile truncates names at a NUL and, on some systems, replaces backslashes.
        if link or name.is_absolute() or ".." in name.parts or any(c in member.orig_filename for c in "\\\0:"):
            message = f"the member {member.orig_filename[:80]!r} is a link or would be unpacked outside the archive"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path)
        if member.flag_bits & 1:
            message = f"the member {member.filename[:80]!r} is encrypted: repack it without a password"
            raise AssetError(ReasonCode.INVALID_ARCHIVE, message, path)
    return [member for member in everything if not member.is_dir() and not _is_hidden(member.filename)]


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
