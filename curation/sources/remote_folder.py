"""A remote folder that fsspec can list becomes a list of assets."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from urllib.parse import quote, unquote

from helix4d.core import ConfigError
from helix4d.curation.places.store import Store, StoreError
from helix4d.curation.remote.config import DownloadConfig
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.sources.listing import SUFFIXES, Listing, SourceAsset


def list_remote_folder(source: str, limit: int | None, patience: DownloadConfig) -> Listing:
    """List the asset files below a URL, sorted by name, without hidden ones.

    Raises:
        ConfigError: if the URL cannot be listed, or has no assets.
    """
    try:
        entries = Store(source, patience).entries()
    except StoreError as error:
        raise ConfigError(f"--source {error}") from error
    web = source.startswith("http")
    assets = []
    for listed, info in entries.items():
        name = unquote(listed) if web else listed
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in parts):
            continue
        size = info.get("size")
        version = str(info.get("ETag") or info.get("etag") or info.get("md5") or info.get("LastModified") or "")
        url = f"{source.rstrip('/')}/{quote(name) if web else name}"
        file = RemoteFile(url, -1 if size is None else int(size), "", version)
        assets.append(SourceAsset(name, Path(file.name), file.size, 0, file))
    if not assets:
        raise ConfigError(f"{source}: no assets found (looked for {', '.join(sorted(SUFFIXES))})")
    return Listing(sorted(assets)[:limit])
