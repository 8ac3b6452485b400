"""A folder behind a URL that fsspec can list becomes a list of assets."""

from __future__ import annotations

from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import unquote

from core import ConfigError
from curation.remote.files import RemoteFile
from curation.sources import SUFFIXES, Listing, SourceAsset


def list_remote_folder(source: str, limit: int | None) -> Listing:
    """Every asset file below a URL, sorted by name; hidden ones are left out.

    Raises:
        ConfigError: if it cannot be listed, or holds no asset.
    """
    import fsspec

    try:
        files, root = fsspec.core.url_to_fs(source)
        # A web server lists a folder only under the name with the slash.
        entries: dict[str, Any] = files.find(f"{root.rstrip('/')}/" if source.startswith("http") else root, detail=True)
    except Exception as error:  # (every protocol has errors of its own)
        raise ConfigError(f"{source}: cannot be listed: {type(error).__name__}: {error}") from error
    base = root.rstrip("/") + "/"
    assets = []
    for path, info in entries.items():
        name = unquote(path.removeprefix(base)) if source.startswith("http") else path.removeprefix(base)
        parts = PurePosixPath(name).parts
        if PurePosixPath(name).suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in parts):
            continue
        size = info.get("size")
        version = str(info.get("ETag") or info.get("etag") or info.get("md5") or info.get("LastModified") or "")
        file = RemoteFile(files.unstrip_protocol(path), -1 if size is None else int(size), "", version)
        assets.append(SourceAsset(name, Path(file.name), file.size, 0, file))
    if not assets:
        raise ConfigError(f"{source}: no asset found (looked for {', '.join(sorted(SUFFIXES))})")
    return Listing(sorted(assets)[:limit])
