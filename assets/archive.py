"""A zip archive that holds exactly one asset becomes that asset, in a folder that is removed afterwards.

The archive is hostile: names that leave the folder, links and encrypted members are refused, and sizes are bounded
before a byte is unpacked. An archive that holds nothing but another one is opened once more. A .usdz is an archive
whose first member is the asset.
"""

from __future__ import annotations

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
_MOST_MEMBERS = 20_000
_LEVELS = 2


@contextmanager
def single_asset(path: Path, limits: Limits) -> Iterator[tuple[Path, Path]]:
    """(the asset, the folder that it must not leave) while the block runs; a file that is no archive is its own asset.

    Raises:
        AssetError: invalid_archive, uri_outside_asset, out_of_memory.
    """
    if path.suffix.lower() not in ARCHIVES or path.is_dir():
        yield path, path if path.is_dir() else path.parent
        return
    with scratch_folder("helix4d-archive-") as root:
        yield _unpack(path, root, limits, _LEVELS), root


def _unpack(path: Path, folder: Path, limits: Limits, levels: int) -> Path:
    try:
        with zipfile.ZipFile(path) as archive:
            members = _checked(archive, path, limits)
            for member in members:
                target = folder / member.filename
                target.parent.mkdir(parents=True, exist_ok=True)
                with archive.open(member) as source, open(target, "xb") as written:
                    shutil.copyfileobj(source, written)
    except (zipfile.BadZipFile, zlib.error, EOFError, NotImplementedError, ValueError, OSError) as error:
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"cannot be unpacked: {str(error)[:200]}", path) from error
    names = [member.filename for member in members]
    if path.suffix.lower() == ".usdz":
        if not names or PurePosixPath(names[0]).suffix.lower() not in _USD:
            raise AssetError(ReasonCode.INVALID_ARCHIVE, "its first member is no USD file", path)
        return folder / names[0]
    found = _candidates(names)
    inner = [name for name in names if PurePosixPath(name).suffix.lower() == ".zip"]
    if not found and len(inner) == 1 and levels > 1:
        return _unpack(folder / inner[0], folder / "inner archive", limits, levels - 1)
    if len(found) != 1:
        told = f"holds {len(found)} assets ({', '.join(found[:5])})" if found else "holds no asset"
        raise AssetError(ReasonCode.INVALID_ARCHIVE, f"{told}, exactly one is needed", path)
    asset = folder / found[0]
    if asset.suffix.lower() == ".usdz":
        return _unpack(asset, folder / "inner archive", limits, 1)
    return asset


def _checked(archive: zipfile.ZipFile, path: Path, limits: Limits) -> list[zipfile.ZipInfo]:
    """The files in it, if all of it may be unpacked."""
    everything = archive.infolist()
    if len(everything) > _MOST_MEMBERS:
        raise AssetError(ReasonCode.OUT_OF_MEMORY, f"has {len(everything)} members, limit {_MOST_MEMBERS}", path)
    total = sum(member.file_size for member in everything)
    if total > limits.file_bytes:
        raise AssetError(ReasonCode.OUT_OF_MEMORY, f"has {total} bytes unpacked, limit {limits.file_bytes}", path)
    for member in everything:
        name = PurePosixPath(member.filename)
        link = stat.S_ISLNK(member.external_attr >> 16)
        # orig_filename: zipfile cuts names at a NUL and turns backslashes round on some systems.
        if link or name.is_absolute() or ".." in name.parts or any(c in member.orig_filename for c in "\\\0:"):
            what = f"the member {member.orig_filename[:80]!r} leaves the archive's folder"
            raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, what, path)
        if member.flag_bits & 1:
            raise AssetError(ReasonCode.INVALID_ARCHIVE, f"the member {member.filename[:80]!r} is encrypted", path)
    return [member for member in everything if not member.is_dir() and not _is_litter(member.filename)]


def _is_litter(name: str) -> bool:
    """Hidden files, and what macOS adds."""
    return any(part.startswith(".") or part == "__MACOSX" for part in PurePosixPath(name).parts)


def _candidates(names: list[str]) -> list[str]:
    """Assets by name: files, and folders of numbered .obj files."""
    files = [name for name in names if PurePosixPath(name).suffix.lower() in ASSETS]
    folders: dict[str, list[str]] = {}
    for name in names:
        folders.setdefault(str(PurePosixPath(name).parent), []).append(PurePosixPath(name).name)
    return sorted(files) + sorted(folder for folder, inside in folders.items() if is_sequence(inside))
