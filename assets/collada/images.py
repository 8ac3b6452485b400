"""Reads the image files of a document: at their paths, or found by name in the asset's folder."""

from __future__ import annotations

import os
import re
from itertools import islice
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element

from helix4d.assets.collada.document import Document
from helix4d.assets.collada.sources import named
from helix4d.assets.pictures import Pictures
from helix4d.core.arrays import UInt8Array
from helix4d.core.messages import path_end, reason
from helix4d.core.storage import is_fault

_MOST_FOLDERS = 10_000
"""Folders in which a file is searched by its name."""


class ImageFiles:
    """Images of a document, each decoded once.

    Args:
        document: the document.
        pictures: decodes them.
    """

    def __init__(self, document: Document, pictures: Pictures) -> None:
        self._document, self._pictures = document, pictures
        self._root = document.root.resolve()
        self._decoded: dict[int, UInt8Array | None] = {}
        self._names: dict[str, list[Path]] | None = None

    def read(self, image: Element) -> UInt8Array | None:
        """Return the (H, W, 4) uint8 pixels of an `<image>`; None, with a warning, if it is missing or broken.

        Raises:
            AssetError: texture_too_large.
        """
        if id(image) not in self._decoded:
            data = self._data(image)
            picture = None if data is None else self._pictures.decode(_name(image), data)
            self._decoded[id(image)] = None if picture is None else picture.pixels
        return self._decoded[id(image)]

    def _data(self, image: Element) -> bytes | None:
        embedded = image.findtext("data") or image.findtext("init_from/hex")
        name = (image.findtext("init_from/ref") or image.findtext("init_from") or "").strip()
        try:
            if embedded is not None and embedded.strip():
                return bytes.fromhex("".join(embedded.split()))
            path = self._located(name)
            if path is not None and path.stat().st_size <= self._document.limits.file_bytes:
                return path.read_bytes()
        except (OSError, ValueError, RuntimeError) as error:  # a loop of links is a RuntimeError
            if is_fault(error):
                raise
            self._document.warn(f"{named(image)}: cannot be read ({reason(error, 120)}): replaced by white")
            return None
        problem = f"{path_end(name)!r} is not in the asset's folder" if path is None else "is larger than the limit"
        self._document.warn(f"{named(image)}: {problem}: replaced by white")
        return None

    def _located(self, name: str) -> Path | None:
        """Return the file that a name refers to: a relative path, or the only file of that name in the folder."""
        local = re.sub(r"^file:(//[^/]*)?", "", name.replace("\\", "/"))
        if not local or "\0" in local:
            return None
        for spelling in dict.fromkeys((local, unquote(local))):
            if "\0" in spelling:
                continue
            target = (self._document.path.parent / spelling).resolve()
            # Access the path only if it is inside the folder.
            if target.is_relative_to(self._root) and target.is_file():
                return target
        last = unquote(local).rpartition("/")[2].lower()
        found = self._by_name().get(last, [])
        return found[0] if len(found) == 1 else None

    def _by_name(self) -> dict[str, list[Path]]:
        """Return the files below the asset's folder by their names in lower case."""
        if self._names is None:
            self._names = {}
            for folder, _, files in islice(os.walk(self._root), _MOST_FOLDERS):
                for file in files:
                    path = Path(folder, file)
                    if path.resolve().is_relative_to(self._root):
                        self._names.setdefault(file.lower(), []).append(path)
        return self._names


def _name(image: Element) -> str:
    return image.get("name") or image.get("id") or ""
