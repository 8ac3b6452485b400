"""A source (a folder, a manifest, a URL or a known collection) becomes a sorted list of assets."""

from __future__ import annotations

import logging
import os
from pathlib import Path

from helix4d.assets.sequence import folder_status, is_sequence
from helix4d.core import ConfigError
from helix4d.curation.places.names import COLLECTIONS, is_url
from helix4d.curation.remote.cache import Cache
from helix4d.curation.remote.network import named_by
from helix4d.curation.sources.hub_collections import REPOSITORIES, list_hub_folder, list_objaverse, list_texverse
from helix4d.curation.sources.listing import SUFFIXES, Listing, SourceAsset
from helix4d.curation.sources.manifest import list_manifest
from helix4d.curation.sources.remote_folder import list_remote_folder

log = logging.getLogger("helix4d.curation")

_READ = SUFFIXES | {".obj"}
MANIFEST_SUFFIXES = frozenset({".csv", ".jsonl", ".ndjson", ".parquet"})


def list_source(source: str, limit: int | None, cache: Cache, follow_links: bool = False) -> Listing:
    """List the assets of a source, sorted by name.

    Args:
        source: a folder, the path of a manifest, a URL, `texverse`, `texverse:IDS` or `objaverse:IDS`.
        limit: maximum number of assets; the first ones by name are kept.
        cache: downloads remote lists.
        follow_links: see `list_folder`.

    Raises:
        ConfigError: if the source cannot be listed, or has no assets.
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
    return Listing(list_folder(Path(source), limit, follow_links))


def named_by_source(source: str) -> tuple[str, ...]:
    """Return the `--allow-host` entries of what the operator names by a source: a host, a bucket, repositories.

    Raises:
        ConfigError: if it is a `hf://` URL that names no repository.
    """
    collection, _, ids = source.partition(":")
    if collection not in COLLECTIONS:
        return named_by(source)
    return (*(f"hf://{repository.label}" for repository in REPOSITORIES[collection]), *named_by(ids))


def absolute(source: str) -> str:
    """Return the source, independent of the working directory."""
    if is_absolute(source):
        return source
    collection, colon, ids = source.partition(":")
    if colon and collection in COLLECTIONS:
        return f"{collection}:{Path(ids).resolve()}"
    return str(Path(source).resolve())


def is_absolute(source: str) -> bool:
    """Return whether the source is independent of the working directory."""
    collection, _, ids = source.partition(":")
    if collection in COLLECTIONS and not is_url(source):
        return not ids or is_url(ids) or Path(ids).is_absolute()
    return is_url(source) or Path(source).is_absolute()


def is_listed_once(source: str) -> bool:
    """Return whether an output keeps its first listing, because listing a collection or URL again is too expensive."""
    return is_url(source) or source.partition(":")[0] in COLLECTIONS


def is_manifest(source: str) -> bool:
    """Return whether the source has the name of a manifest."""
    path = source.split("?")[0].split("#")[0] if is_url(source) else source
    return Path(path).suffix.lower() in MANIFEST_SUFFIXES and not Path(source).is_dir()


def list_folder(source: Path, limit: int | None = None, follow_links: bool = False) -> list[SourceAsset]:
    """List the assets below a folder, sorted by name. Hidden files, hidden folders and links to folders are skipped.

    Args:
        source: the folder.
        limit: maximum number of assets; the first ones by name are kept.
        follow_links: whether to read files behind links that point outside the folder. An unpacked archive may
            contain a link to any file of this machine.

    Raises:
        ConfigError: if the folder does not exist, has no assets, cannot be listed in part, or has such a link.
    """
    if source.is_file():
        raise ConfigError(
            f"{source}: not a folder: set --source to the folder that contains the file, or to a manifest "
            f"({', '.join(sorted(MANIFEST_SUFFIXES))}) that lists it"
        )
    if not source.is_dir():
        raise ConfigError(f"{source}: no such folder")
    root = source.resolve()
    assets = []
    frames: dict[Path, list[str]] = {}
    for parent, folders, names in os.walk(root, onerror=_skip_or_raise):
        folders[:] = [name for name in folders if not name.startswith(".")]
        for path in (Path(parent, name) for name in names if not name.startswith(".")):
            if path.is_symlink() and not follow_links and path.suffix.lower() in _READ:
                _refuse_escape(path, root)
            if path.suffix.lower() == ".obj":
                frames.setdefault(path.parent, []).append(path.name)
            elif path.suffix.lower() in SUFFIXES and path.is_file():
                status = path.stat()
                name = path.relative_to(root).as_posix()
                assets.append(SourceAsset(name, path, status.st_size, status.st_mtime_ns))
    for folder, names in frames.items():
        if is_sequence(names):
            sequence = folder_status(folder)
            name = folder.relative_to(root).as_posix() if folder != root else root.name
            assets.append(SourceAsset(name, folder, sequence.size, sequence.mtime_ns))
    if not assets:
        raise ConfigError(f"{source}: no assets found (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(assets)[:limit]


def _refuse_escape(link: Path, root: Path) -> None:
    if not link.resolve().is_relative_to(root):
        raise ConfigError(
            f"{link}: a symbolic link out of the source folder, to {link.resolve()}: remove it, or pass --follow-links "
            "if you trust every link in the folder"
        )


def _skip_or_raise(error: OSError) -> None:
    """Skip folders without permission (such as lost+found); refuse others, which may hold assets."""
    if not isinstance(error, PermissionError):
        raise ConfigError(f"{error.filename}: cannot be listed ({error.strerror})") from error
    log.warning("%s: not searched for assets (%s)", error.filename, error.strerror)
