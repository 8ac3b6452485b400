"""A manifest (CSV, JSON lines or Parquet) becomes a list of assets: a uid and a path or URL a row.

Columns: `uid`, `path` or `url`, and optionally `license` and `sha256`; all others are kept as metadata. A path is
relative to the manifest. A manifest behind a URL names only what lies beside it or behind URLs of its own.
"""

from __future__ import annotations

import csv
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

from helix4d.core import AssetError, ConfigError, ReasonCode
from helix4d.curation.places.names import is_url
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.sources.listing import Exclusion, Listing, SourceAsset

if TYPE_CHECKING:
    from helix4d.curation.remote.cache import Cache

_PLACES = ("uid", "path", "url", "sha256")
_LOCAL_PROTOCOLS = frozenset({"file", "local", "memory", "dir"})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


def list_manifest(source: str, limit: int | None, cache: Cache) -> Listing:
    """The assets of a manifest, sorted by uid.

    Raises:
        ConfigError: if it cannot be read, or a row is not as it should be; the message says which.
    """
    if not is_url(source):
        return _listing(source, read_rows(Path(source)), limit)
    try:
        with cache.lease(RemoteFile(source)) as path:
            return _listing(source, read_rows(path), limit)
    except AssetError as error:
        raise ConfigError(f"{source}: {error.message}") from error


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """(where it stands, row) for every row; empty cells are left out.

    Raises:
        ConfigError: if it is no such file.
    """
    if not path.is_file():
        raise ConfigError(f"{path}: no such file")
    suffix = path.suffix.lower()
    try:
        if suffix == ".parquet":
            rows = list(_parquet(path))
        elif suffix == ".csv":
            rows = list(_csv(path))
        else:
            rows = list(_json_lines(path))
    except (ValueError, csv.Error) as error:
        raise ConfigError(f"{path}: not a {suffix.lstrip('.')} manifest ({error})") from error
    return [(f"{path.name}, {where}", _filled(row)) for where, row in rows]


def _listing(source: str, rows: Iterable[tuple[str, dict[str, Any]]], limit: int | None) -> Listing:
    by_name: dict[str, tuple[str, dict[str, Any]]] = {}
    for where, row in rows:
        if "uid" not in row:
            raise ConfigError(
                f"{where}: no uid; filled are {', '.join(row) or 'no columns'} (docs/sources.md names them)"
            )
        name = str(row["uid"])
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: uid {name!r}: a name in one line of at most 255 characters is needed")
        if name in by_name:
            raise ConfigError(f"{where}: uid {name!r} was in {by_name[name][0]} already")
        by_name[name] = where, row
    if not by_name:
        raise ConfigError(f"{source}: no asset in it")
    assets: list[SourceAsset] = []
    unreachable: dict[str, Exclusion] = {}
    for name in sorted(by_name)[:limit]:
        asset = _asset(source, name, *by_name[name])
        if isinstance(asset, Exclusion):
            unreachable[name] = asset
        else:
            assets.append(asset)
    return Listing(assets, unreachable)


def _asset(source: str, name: str, where: str, row: Mapping[str, Any]) -> SourceAsset | Exclusion:
    path, url = str(row.get("path", "")), str(row.get("url", ""))
    if bool(path) == bool(url):
        raise ConfigError(
            f"{where}: {'both' if path else 'neither'} path {'and' if path else 'nor'} url: one is needed"
        )
    digest = str(row.get("sha256", ""))
    if digest and not _SHA256.fullmatch(digest):
        raise ConfigError(f"{where}: sha256 {digest!r}: 64 hexadecimal digits are needed")
    metadata = {column: value for column, value in row.items() if column not in _PLACES}
    if is_url(path):
        path, url = "", path
    if url:
        _check_url(url, where)
    elif is_url(source):
        url = _beside(source, path, where)
    if url:
        file = RemoteFile(url, sha256=digest.lower())
        return SourceAsset(name, Path(file.name), -1, 0, file, metadata=metadata)
    target = Path(source).resolve().parent / path
    try:
        status = target.stat()
    except (OSError, ValueError) as error:
        return Exclusion(ReasonCode.DOWNLOAD_FAILED, f"{path}: cannot be read: {error}")
    if target.is_dir():
        from helix4d.assets.sequence import folder_status

        if digest:
            raise ConfigError(f"{where}: sha256 of a folder, {path!r}: only files have one")
        whole = folder_status(target)
        return SourceAsset(name, target, whole.size, whole.mtime_ns, metadata=metadata)
    return SourceAsset(name, target, status.st_size, status.st_mtime_ns, sha256=digest.lower(), metadata=metadata)


def _check_url(url: str, where: str) -> None:
    protocol = url.partition("://")[0].lower()
    if "://" not in url or "::" in url or protocol in _LOCAL_PROTOCOLS:
        raise ConfigError(f"{where}: url {url[:100]!r}: expected PROTOCOL://..., not of this machine and not chained")


def _beside(source: str, path: str, where: str) -> str:
    """The URL of a path relative to a manifest behind a URL."""
    parts = PurePosixPath(path).parts
    if PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ConfigError(f"{where}: path {path!r} leaves the folder of the manifest, which is not of this machine")
    base = source.split("?")[0].split("#")[0].rpartition("/")[0]
    web = source.split("://")[0].lower() in ("http", "https", "hf")
    return f"{base}/{quote(path) if web else path}"


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the first")
            yield f"line {reader.line_num}", row


def _json_lines(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(path, encoding="utf-8-sig") as stream:
        for number, line in enumerate(stream, 1):
            if line.strip():
                try:
                    row = json.loads(line)
                except ValueError as error:
                    raise ValueError(f"line {number}: {error}") from error
                if not isinstance(row, dict):
                    raise ValueError(f"line {number}: not an object")
                yield f"line {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise ConfigError(f"{path}: Parquet needs pyarrow: pip install 'helix4d[parquet]'") from error
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(str(error)[:200]) from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {str(column).strip(): _plain(value) for column, value in row.items()}
    return {column: value for column, value in plain.items() if value is not None and value != ""}


def _plain(value: Any) -> Any:
    """The value as JSON holds it."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | None) else str(value)
