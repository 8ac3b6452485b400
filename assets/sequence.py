"""Folders of numbered .obj files as animations: finds their frames, and detects changes of the folder."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from helix4d.core import AssetError, ReasonCode

FRAMES_PER_S = 24.0
"""Numbered files contain no times, so Blender's default frame rate is used."""
_NUMBERED = re.compile(r"(.*?)(\d+)\.obj", re.IGNORECASE)


@dataclass(frozen=True)
class FolderStatus:
    """Total size in bytes and latest modification time of the files in a folder, used to detect changes."""

    size: int
    mtime_ns: int


def is_sequence(names: list[str]) -> bool:
    """Return whether files are the frames of one animation: two or more .obj files that differ in their number only."""
    matches = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    return len({match[2] for match in matches}) > 1 and len({match[1] for match in matches}) == 1


def sequence_files(folder: Path) -> list[Path]:
    """List the frames of a folder, sorted by number.

    Raises:
        AssetError: not_gltf if the folder is not a sequence.
    """
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if not is_sequence([path.name for path in paths]):
        message = "must contain two or more numbered .obj files that differ in their number only"
        raise AssetError(ReasonCode.NOT_GLTF, message, folder)
    frames = [(int(match[2]), path) for path in paths if (match := _NUMBERED.fullmatch(path.name))]
    return [path for _, path in sorted(frames)]


def folder_files(folder: Path) -> list[Path]:
    """List all files in a folder and its subfolders that are not hidden, sorted by name."""
    files = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            files.append(path)
    return sorted(files, key=lambda path: path.relative_to(folder).as_posix())


def folder_status(folder: Path) -> FolderStatus:
    """Return the size and modification time of a folder."""
    statuses = [path.stat() for path in folder_files(folder)]
    return FolderStatus(
        sum(status.st_size for status in statuses), max((status.st_mtime_ns for status in statuses), default=0)
    )
