"""A manifest (CSV, JSON lines or Parquet) becomes a list of assets, one per row.

Columns: `uid`, `path` or `url`, and optionally `license` and `sha256`; all others are kept as metadata and published,
except for user info and query strings of URLs. Paths are relative to the manifest. A remote manifest cannot reference
local files. Error messages name the line and the column but do not quote the content, because the URL of a manifest may
lead to a page that is not public.
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
from helix4d.core.extras import missing_package
from helix4d.core.redaction import redact_values
from helix4d.curation.places.names import is_url
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.hub import parse_hub_url
from helix4d.curation.sources.listing import Exclusion, Listing, SourceAsset

if TYPE_CHECKING:
    from helix4d.curation.remote.cache import Cache

_PLACES = ("uid", "path", "url", "sha256")
_LOCAL_PROTOCOLS = frozenset({"file", "local", "memory", "dir"})
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")
_NAME = re.compile(r"[^\x00-\x1f\x7f]{1,255}")


def list_manifest(source: str, limit: int | None, cache: Cache) -> Listing:
    """List the assets of a manifest, sorted by uid.

    Raises:
        ConfigError: if the manifest cannot be read, or a row is invalid; the message names the row.
    """
    if not is_url(source):
        return _listing(source, read_rows(Path(source)), limit)
    try:
        with cache.lease(RemoteFile(source)) as path:
            return _listing(source, read_rows(path), limit)
    except AssetError as error:
        raise ConfigError(f"{source}: {error.message}") from error


def read_rows(path: Path) -> list[tuple[str, dict[str, Any]]]:
    """Read the rows of a manifest.

    Returns:
        (file and line, row) of each row, without empty cells.

    Raises:
        ConfigError: if the file does not exist, or is not a valid manifest.
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
        raise ConfigError(f"{path}: not a valid {suffix.lstrip('.')} manifest ({error})") from error
    return [(f"{path.name}, {where}", _filled(row)) for where, row in rows]


def _listing(source: str, rows: Iterable[tuple[str, dict[str, Any]]], limit: int | None) -> Listing:
    by_name: dict[str, tuple[str, dict[str, Any]]] = {}
    for where, row in rows:
        if "uid" not in row:
            raise ConfigError(f"{where}: no uid (see docs/sources.md for the columns)")
        name = str(row["uid"])
        if not _NAME.fullmatch(name):
            raise ConfigError(f"{where}: the uid must be one line of at most 255 characters")
        if name in by_name:
            raise ConfigError(f"{where}: the uid is a duplicate of {by_name[name][0]}")
        by_name[name] = where, row
    if not by_name:
        raise ConfigError(f"{source}: the manifest lists no assets")
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
            f"{where}: {'both' if path else 'neither'} path {'and' if path else 'nor'} url is set: set exactly one"
        )
    digest = str(row.get("sha256", ""))
    if digest and not _SHA256.fullmatch(digest):
        raise ConfigError(f"{where}: the sha256 must be 64 hexadecimal digits")
    metadata = redact_values({column: value for column, value in row.items() if column not in _PLACES})
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
        return Exclusion(ReasonCode.DOWNLOAD_FAILED, f"{path}: cannot be read ({error})")
    if target.is_dir():
        from helix4d.assets.sequence import folder_status

        if digest:
            raise ConfigError(f"{where}: a sha256 is set for a folder: only files can have one")
        folder = folder_status(target)
        return SourceAsset(name, target, folder.size, folder.mtime_ns, metadata=metadata)
    return SourceAsset(name, target, status.st_size, status.st_mtime_ns, sha256=digest.lower(), metadata=metadata)


def _check_url(url: str, where: str) -> None:
    protocol = url.partition("://")[0].lower()
    if protocol == "hf":
        try:
            parse_hub_url(url)
        except ConfigError as error:
            raise ConfigError(f"{where}: the url must be hf://datasets/OWNER/NAME@REVISION/PATH") from error
    if "://" not in url or "::" in url or protocol in _LOCAL_PROTOCOLS:
        raise ConfigError(f"{where}: the url must be a remote PROTOCOL://... URL, not local or chained")


def _beside(source: str, path: str, where: str) -> str:
    """Return the URL of a path relative to a remote manifest."""
    parts = PurePosixPath(path).parts
    if PurePosixPath(path).is_absolute() or ".." in parts or "\\" in path:
        raise ConfigError(f"{where}: the path leaves the folder of the manifest, which is remote")
    base = source.split("?")[0].split("#")[0].rpartition("/")[0]
    web = source.split("://")[0].lower() in ("http", "https", "hf")
    return f"{base}/{quote(path) if web else path}"


def _csv(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    with open(path, encoding="utf-8-sig", newline="") as stream:
        reader = csv.DictReader(stream, strict=True)
        for row in reader:
            if None in row:
                raise ValueError(f"line {reader.line_num} has more cells than the header")
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
                    raise ValueError(f"line {number}: not a JSON object")
                yield f"line {number}", row


def _parquet(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError as error:
        raise missing_package(f"{path}: reading Parquet", "pyarrow") from error
    try:
        rows = pyarrow.parquet.read_table(path).to_pylist()
    except (pyarrow.ArrowException, OSError) as error:
        raise ValueError(type(error).__name__) from error
    for number, row in enumerate(rows, 1):
        yield f"row {number}", row


def _filled(row: Mapping[str, Any]) -> dict[str, Any]:
    plain = {str(column).strip(): _plain(value) for column, value in row.items()}
    return {column: value for column, value in plain.items() if value is not None and value != ""}


def _plain(value: Any) -> Any:
    """Return the value as JSON represents it."""
    if isinstance(value, str):
        return value.strip()
    if isinstance(value, Mapping):
        return {str(name): _plain(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(entry) for entry in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    return value if isinstance(value, bool | int | None) else str(value)
