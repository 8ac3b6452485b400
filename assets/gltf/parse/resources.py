"""Resolves the URIs of a glTF file, and hashes the file with everything that it refers to.

A URI may contain its data or name a file inside the asset's own folder. Everything else is refused before any file is
opened: schemes, absolute paths, drive letters, backslashes, and `..` or links that leave the folder, in any encoding.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote, unquote_to_bytes

from helix4d.assets.gltf.parse.container import read_container
from helix4d.assets.limits import DEFAULT_LIMITS
from helix4d.assets.sequence import folder_files
from helix4d.core import AssetError, ReasonCode, sha256_file, sha256_json
from helix4d.core.storage import is_fault

_SCHEME = re.compile(r"^[a-zA-Z][a-zA-Z0-9+.\-]*:")
_BLOCK_BYTES = 1 << 20


def is_data_uri(uri: str) -> bool:
    """Return whether the URI contains its own data."""
    return uri[:5].lower() == "data:"


def decode_data_uri(uri: str, path: Path) -> bytes:
    """Decode a `data:` URI (RFC 2397).

    Raises:
        AssetError: corrupt_file.
    """
    head, comma, body = uri[5:].partition(",")
    if not comma:
        raise AssetError(ReasonCode.CORRUPT_FILE, "a data URI has no comma: the file is corrupt", path)
    if not head.lower().rstrip().endswith(";base64"):
        return unquote_to_bytes(body)
    try:
        compact = re.sub(rb"\s+", b"", unquote_to_bytes(body))
        return base64.b64decode(compact + b"=" * (-len(compact) % 4), validate=True)
    except (binascii.Error, ValueError) as error:
        message = f"a data URI is not valid base64 ({error}): the file is corrupt"
        raise AssetError(ReasonCode.CORRUPT_FILE, message, path) from error


def resource_path(uri: str, path: Path) -> Path:
    """Return the file that a URI in the asset at `path` refers to; it need not exist.

    Raises:
        AssetError: uri_outside_asset.
    """
    decoded = unquote(uri)
    shown = uri[:80]
    outside = (
        bool(_SCHEME.match(uri) or _SCHEME.match(decoded))
        or any(character in decoded for character in ("\\", "\x00"))
        or decoded.startswith("/")
    )
    refusal = f"the URI {shown!r} does not stay inside the asset's folder: use relative paths within it"
    if outside:
        raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, refusal, path)
    try:
        folder = path.parent.resolve()
        target = (folder / decoded).resolve()
    except (OSError, ValueError, RuntimeError) as error:  # too long, not encodable, a loop of links
        message = f"the URI {shown!r} cannot be resolved to a file ({error})"
        raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, message, path) from error
    if not target.is_relative_to(folder):
        raise AssetError(ReasonCode.URI_OUTSIDE_ASSET, refusal, path)
    return target


def content_hash(path: Path) -> str:
    """Return the hex SHA-256 of a file's bytes followed by those of its external resources, in order of appearance.

    For a self-contained file, this is its plain SHA-256. Resources that are missing or outside the asset's folder are
    skipped, and broken files are hashed like any other. For a folder of numbered .obj files, this is a hash of the
    names and contents of all its files.

    Raises:
        OSError: if the file itself cannot be read.
    """
    path = Path(path)
    if path.is_dir():
        named = [(file.relative_to(path).as_posix(), sha256_file(file)) for file in folder_files(path)]
        return sha256_json(named)
    resources = list(_resources(path))
    if not resources:
        return sha256_file(path)
    digest = hashlib.sha256()
    for member in (path, *resources):
        with open(member, "rb") as stream:
            while block := stream.read(_BLOCK_BYTES):
                digest.update(block)
    return digest.hexdigest()


def external_uris(path: Path) -> Iterator[tuple[str, Path]]:
    """Yield the URIs of a glTF file that refer to other files in its folder, and the paths of those files.

    Each file is yielded once, in order of appearance, whether it exists or not. URIs that leave the folder are skipped.
    Yields nothing for files that are broken or not glTF.
    """
    path = Path(path)
    if path.suffix.lower() not in (".glb", ".gltf"):
        return
    try:
        values = read_container(path, DEFAULT_LIMITS).values
    except AssetError:
        return
    seen: set[Path] = set()
    for key, entries in values.items():
        if key not in ("buffers", "images") or not isinstance(entries, list):
            continue
        for entry in entries:
            uri = entry.get("uri") if isinstance(entry, dict) else None
            if not isinstance(uri, str) or is_data_uri(uri):
                continue
            try:
                target = resource_path(uri, path)
            except AssetError:
                continue
            if target not in seen:
                seen.add(target)
                yield uri, target


def _resources(path: Path) -> Iterator[Path]:
    for _, target in external_uris(path):
        try:
            available = target.is_file()
        except OSError as error:
            if is_fault(error):
                raise
            continue
        if available:
            yield target
