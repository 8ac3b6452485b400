"""What `--source` names becomes a sorted list of assets: a folder, a manifest, a URL, or a known collection."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from helix4d.assets.sequence import folder_status, is_sequence
from helix4d.core import ConfigError
from helix4d.curation.places.names import COLLECTIONS, is_url
from helix4d.curation.remote.cache import Cache
from helix4d.curation.sources.hub_collections import list_hub_folder, list_objaverse, list_texverse
from helix4d.curation.sources.listing import SUFFIXES, Listing, SourceAsset
from helix4d.curation.sources.manifest import list_manifest
from helix4d.curation.sources.remote_folder import list_remote_folder

log = logging.getLogger("helix4d.curation")

MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson", ".parquet"})


def list_source(source: str, limit: int | None, cache: Cache) -> Listing:
    """Every asset that `source` names, sorted by name, the first `limit` of them.

    Args:
        source: a folder, a manifest's path, a URL, `texverse`, `texverse:IDS` or `objaverse:IDS`.
        limit: at most so many.
        cache: fetches lists that lie elsewhere.

    Raises:
        ConfigError: if it cannot be listed, or names no asset.
    """
    collection, _, ids = source.partition(":")
    if collection == "texverse":
        return list_texverse(ids, limit, cache)
    if collection == "objaverse" and not is_url(source):
        return list_objaverse(ids, limit, cache)
    if is_manifest(source):
        return list_manifest(source, limit, cache)
    if source.startswith("hf://"):
        return list_hub_folder(source, limit, cache)
    if is_url(source):
        return list_remote_folder(source, limit, cache.patience)
    return Listing(list_folder(Path(source), limit))


def absolute(source: str) -> str:
    """The source as it is found from any folder."""
    if is_absolute(source):
        return source
    collection, colon, ids = source.partition(":")
    if colon and collection in COLLECTIONS:
        return f"{collection}:{Path(ids).resolve()}"
    return str(Path(source).resolve())


def is_absolute(source: str) -> bool:
    """Whether every working directory finds the same under it."""
    collection, _, ids = source.partition(":")
    if collection in COLLECTIONS and not is_url(source):
        return not ids or is_url(ids) or Path(ids).is_absolute()
    return is_url(source) or Path(source).is_absolute()


def is_listed_once(source: str) -> bool:
    """Whether an output keeps the list that it was begun with: listing a collection or a URL again costs too much."""
    return is_url(source) or source.partition(":")[0] in COLLECTIONS


def is_manifest(source: str) -> bool:
    """Whether it is named like a manifest."""
    path = source.split("?")[0].split("#")[0] if is_url(source) else source
    return Path(path).suffix.lower() in MANIFEST_SUFFIXES and not Path(source).is_dir()


def list_folder(source: Path, limit: int | None = None) -> list[SourceAsset]:
    """Every asset below `source`, sorted by name; hidden files and folders are not searched, nor links to folders.

    Raises:
        ConfigError: if there is no such folder, no asset in it, or a part of it cannot be listed.
    """
    if source.is_file():
        raise ConfigError(
            f"{source}: a file; --source takes the folder that it is in, or a manifest "
            f"({', '.join(sorted(MANIFEST_SUFFIXES))}) that names it"
        )
    if not source.is_dir():
        raise ConfigError(f"{source}: no such folder")
    root = source.resolve()
    found = []
    frames: dict[Path, list[str]] = {}
    for parent, below, names in os.walk(root, onerror=_tell_or_refuse):
        below[:] = [name for name in below if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.suffix.lower() == ".obj":
                frames.setdefault(path.parent, []).append(path.name)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                status = path.stat()
                name = path.relative_to(root).as_posix()
                found.append(SourceAsset(name, path, status.st_size, status.st_mtime_ns))
    for folder, names in frames.items():
        if is_sequence(names):
            whole = folder_status(folder)
            name = folder.relative_to(root).as_posix() if folder != root else root.name
            found.append(SourceAsset(name, folder, whole.size, whole.mtime_ns))
    if not found:
        raise ConfigError(f"{source}: no asset found (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)[:limit]


def _tell_or_refuse(error: OSError) -> None:
    """A folder that is not for us may be left out (lost+found); one that a server fails to list may hold anything."""
    if not isinstance(error, PermissionError):
        raise ConfigError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    log.warning("%s: not searched for assets (%s)", error.filename, error.strerror)
