"""A folder of numbered .obj files is an animation: which files are its frames, and what the folder weighs."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from helix4d.core import AssetError, ReasonCode

FRAMES_PER_S = 24.0
"""Numbered files say nothing of time; Blender's own default."""
_NUMBERED = re.compile(r"(.*?)(\d+)\.obj", re.IGNORECASE)


@dataclass(frozen=True)
class FolderStatus:
    """Bytes of all files of a folder, and the newest modification time among them."""

    size: int
    mtime_ns: int


def is_sequence(names: list[str]) -> bool:
    """Whether files of a folder are the frames of one animation: two numbered .obj or more, all called the same."""
    found = [match for name in names if (match := _NUMBERED.fullmatch(name))]
    return len({match[2] for match in found}) > 1 and len({match[1] for match in found}) == 1


def sequence_files(folder: Path) -> list[Path]:
    """The frames, by number.

    Raises:
        AssetError: not_gltf if the folder holds no sequence.
    """
    paths = [path for path in folder.iterdir() if path.is_file() and not path.name.startswith(".")]
    if not is_sequence([path.name for path in paths]):
        raise AssetError(ReasonCode.NOT_GLTF, "is not a folder of numbered .obj files of one name", folder)
    frames = [(int(match[2]), path) for path in paths if (match := _NUMBERED.fullmatch(path.name))]
    return [path for _, path in sorted(frames)]


def folder_files(folder: Path) -> list[Path]:
    """Every file below a folder that is not hidden, in the order of their names."""
    found = []
    for path in folder.rglob("*"):
        hidden = any(part.startswith(".") for part in path.relative_to(folder).parts)
        if not hidden and path.is_file():
            found.append(path)
    return sorted(found, key=lambda path: path.relative_to(folder).as_posix())


def folder_status(folder: Path) -> FolderStatus:
    """What tells whether a folder has changed."""
    statuses = [path.stat() for path in folder_files(folder)]
    return FolderStatus(
        sum(status.st_size for status in statuses), max((status.st_mtime_ns for status in statuses), default=0)
    )
