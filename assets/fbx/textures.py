"""Finds the images of textures: embedded, at the stated path, or by name in the asset's folder.

Paths in a file refer to its author's machine, and asset sites move images to other folders (`source/` and `textures/`).
No path outside the asset's folder is accessed.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import Any

from helix4d.assets.fbx.binding import kept
from helix4d.assets.limits import Limits
from helix4d.assets.pictures import Picture, Pictures
from helix4d.core.messages import path_end
from helix4d.core.storage import is_fault

_FOLDERS = frozenset({"texture", "textures", "tex", "maps", "images", "materials"})
_MAX_FILES = 20_000


class TextureFiles(Pictures):
    """Images of a file, each decoded once.

    Args:
        path: path of the asset.
        root: folder that the images must be in. If it was unpacked from an archive, all of it is searched; otherwise
            the asset's own folder and its texture folders, which are recognized by name.
        limits: upper bounds on their size.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        super().__init__(path, limits)
        self._folder, self._root = path.parent, root
        self._in_archive = path.parent != root
        self._read: dict[int, Picture | None] = {}
        self._by_name: dict[str, list[Path]] | None = None

    def read(self, texture: Any) -> Picture | None:
        """Return the picture of a texture; None, with a warning, if it is missing or broken.

        Raises:
            AssetError: texture_too_large.
        """
        names = [texture.relative_filename, texture.absolute_filename, texture.filename]
        names = list(dict.fromkeys(name.replace("\\", "/") for name in names if name))
        name = PurePosixPath(names[0]).name if names else texture.name
        key = texture.file_index if texture.has_file else -1 - texture.typed_id
        if key not in self._read:
            video = kept(texture.video)
            data = texture.content or (video.content if video is not None else b"") or self._file(names, name)
            self._read[key] = None if not data else self.decode(name, data)
        return self._read[key]

    def _file(self, names: list[str], name: str) -> bytes | None:
        try:
            for found in self._candidates(names):
                if found.stat().st_size <= self._limits.file_bytes:
                    return found.read_bytes()
                self.warnings.append(f"image {path_end(name)!r}: is larger than the limit: replaced by the fallback")
                return None
        except OSError as error:
            if is_fault(error):
                raise
            self.warnings.append(f"image {path_end(name)!r}: cannot be read: replaced by the fallback")
            return None
        self.warnings.append(f"image {path_end(name)!r}: not found in the asset's folder: replaced by the fallback")
        return None

    def _candidates(self, names: list[str]) -> Iterator[Path]:
        for name in names:
            stated = Path(os.path.normpath(self._folder.resolve() / name))
            if self._is_readable(stated):
                yield stated
        for name in names:
            same_name = self._named(PurePosixPath(name).name)
            if same_name:
                # The one whose folders agree most with those of the stated path.
                yield max(same_name, key=lambda path: (_common(path, name), -len(path.parts), str(path)))

    def _named(self, name: str) -> list[Path]:
        """Return the readable files with a name, ignoring case."""
        if self._by_name is None:
            self._by_name = {}
            for path in self._searched():
                self._by_name.setdefault(path.name.lower(), []).append(path)
        return [path for path in self._by_name.get(name.lower(), []) if self._is_readable(path)]

    def _is_readable(self, path: Path) -> bool:
        """Return whether a path is a file in the folder, both as written and after links are followed."""
        root = self._root.resolve()
        try:
            return path.is_relative_to(root) and path.resolve().is_relative_to(root) and path.is_file()
        except (OSError, ValueError, RuntimeError) as error:  # too long, with a null, or a loop of links
            if is_fault(error):
                raise
            return False

    def _searched(self) -> Iterator[Path]:
        seen = 0
        start = (self._root if self._in_archive else self._folder).resolve()
        for folder, below, files in os.walk(start):
            below.sort()
            if not self._in_archive:
                below[:] = [name for name in below if name.lower() in _FOLDERS or name.lower().endswith(".fbm")]
            for name in sorted(files):
                seen += 1
                if seen > _MAX_FILES:
                    self.warnings.append(
                        f"more than {_MAX_FILES:,} files in the image folders: the rest are not searched"
                    )
                    return
                yield Path(folder, name)


def _common(path: Path, name: str) -> int:
    """Return how many trailing parts a path and a name have in common, in any letter case."""
    pairs = zip(reversed(path.parts), reversed(PurePosixPath(name).parts), strict=False)
    count = 0
    for one, two in pairs:
        if one.lower() != two.lower():
            break
        count += 1
    return count
