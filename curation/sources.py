"""A folder of assets becomes a sorted list; contents become hashes, and hashes become the plan's identity."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from core import ConfigError

SUFFIXES = frozenset({".glb", ".gltf", ".fbx"})


@dataclass(frozen=True, order=True)
class SourceAsset:
    """A file of the source folder.

    Attributes:
        name: path relative to the source, with forward slashes: what ledgers and reports call it.
        path: where it is.
        size: bytes.
        mtime_ns: modification time, which with the size tells whether it must be hashed again.
    """

    name: str
    path: Path
    size: int
    mtime_ns: int


def list_folder(source: Path, limit: int | None = None) -> list[SourceAsset]:
    """Every asset file below `source`, sorted by name; hidden files and folders are not searched.

    Raises:
        ConfigError: if there is no such folder, or no asset in it.
    """
    if not source.is_dir():
        raise ConfigError(f"{source}: no such folder")
    root = source.resolve()
    found = []
    for path in root.rglob("*"):
        relative = path.relative_to(root)
        if path.suffix.lower() not in SUFFIXES or any(part.startswith(".") for part in relative.parts):
            continue
        if path.is_file():
            status = path.stat()
            found.append(SourceAsset(relative.as_posix(), path, status.st_size, status.st_mtime_ns))
    if not found:
        raise ConfigError(f"{source}: no asset found (looked for {', '.join(sorted(SUFFIXES))})")
    return sorted(found)[:limit]
