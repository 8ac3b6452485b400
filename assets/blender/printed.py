"""Turns what Blender prints while it reads a file into warnings: losses, without paths, times and progress."""

from __future__ import annotations

import re

from helix4d.core.messages import reproducible

_MOST_LINES = 20
_MOST_CHARACTERS = 200
_CHATTER = re.compile(
    r"(?:"
    r"Read blend:|Read library:|Saved|Info: |Fra:|Time: |Warning: region type |"
    r"\w+ import (?:of '.*' |\S+ )?took |Alembic import .*took |Failed to open dir |"
    r"Color management: |unknown file type|Device with name |.*\bFINISHED\b|"
    r"\S+ read cost|^-+$|Blender quit"
    r")"
)
"""Beginnings of lines that report progress, or repeat what another line says."""
_LOGGED = re.compile(r"^(?:[\d:.]+\s*\|?\s*)?(?:WARN|ERROR|FATAL) ?\([\w.]+\):\s+\S+:\d+ [^\s:]+:\s*")
"""The beginning of a line of Blender's logger: time, level, area, source file and line, function."""
_PATH = re.compile(r"""(?<![\w.])(?:[A-Za-z]:[\\/]|//|/)(?:[^\s'"<>|:*?/\\]+[\\/])*(?=[^\s'"<>|:*?/\\]*)""")
"""The folders of a path; its last part is kept."""


def losses(printed: str, *folders: str) -> list[str]:
    """Return the warnings in the output of Blender, each once, in order.

    Args:
        printed: what Blender wrote to standard output and standard error.
        folders: folders of the asset, which may have spaces in their names.
    """
    found: dict[str, None] = {}
    for line in reproducible(printed).splitlines():
        text = line.strip()
        if text and not _CHATTER.match(text):
            found.setdefault(f"Blender: {_plain(text, folders)}")
    kept = list(found)[:_MOST_LINES]
    return kept + ([f"Blender: {len(found) - len(kept)} more messages"] if len(found) > len(kept) else [])


def without_folders(text: str, *folders: str) -> str:
    """Return a text in which paths are reduced to names of files; names in `folders` may have spaces."""
    for folder in sorted(folders, key=len, reverse=True):
        text = text.replace(f"{folder.rstrip('/')}/", "")
    return _PATH.sub("", text)


def _plain(text: str, folders: tuple[str, ...]) -> str:
    return " ".join(without_folders(_LOGGED.sub("", text), *folders).split())[:_MOST_CHARACTERS]
