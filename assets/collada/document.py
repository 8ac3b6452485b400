"""Parses a COLLADA document into XML elements without namespaces, and finds elements by URL.

The document is untrusted: a document type declaration, which could define entities, is refused before the document is
parsed, and the number of tags is limited.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import unquote
from xml.etree.ElementTree import Element, ParseError, XMLParser
from xml.parsers import expat

from helix4d.assets.limits import Limits
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Float64Array
from helix4d.core.messages import path_end, reason

_MOST_TAGS = 10_000_000
"""Opening and closing tags; an element takes about 300 bytes of memory."""
_MOST_WARNINGS = 100
_PROLOG_BYTES = 1 << 20
_ENCODING = re.compile(rb"""\s*<\?xml[^>]{0,80}?encoding\s*=\s*["']([A-Za-z0-9._-]+)["']""")
_MULTIBYTE = frozenset({"big5", "euc-jp", "euc-kr", "gb18030", "gb2312", "gbk", "ks_c_5601-1987", "shift_jis"})
"""Encodings found in practice that expat cannot read."""


class Document:
    """A parsed document.

    Args:
        path: path of the file.
        root: folder that its references must not leave.
        limits: upper bounds on its size.

    Attributes:
        tree: the root element; tags have no namespaces.
        arrays: numbers of sources that have been read, by the `id()` of their elements.
        warnings: messages about unsupported or repaired content.

    Raises:
        AssetError: not_gltf for a file that is not COLLADA, or has a document type; corrupt_file, out_of_memory.
    """

    def __init__(self, path: Path, root: Path, limits: Limits) -> None:
        self.path, self.root, self.limits = path, root, limits
        self._warnings: dict[str, None] = {}
        self.arrays: dict[int, Float64Array] = {}
        self.tree = self._parse()
        self._by_id: dict[str, Element] = {}
        for element in self.tree.iter():
            element.tag = element.tag.rpartition("}")[2]
            name = element.get("id")
            if name is not None:
                self._by_id.setdefault(name, element)

    @property
    def warnings(self) -> tuple[str, ...]:
        """Distinct warnings in the order of their first occurrence."""
        return tuple(self._warnings)

    @property
    def is_by_blender(self) -> bool:
        """Whether Blender wrote the document; Blender deviates from the specification."""
        return (self.tree.findtext("asset/contributor/authoring_tool") or "").strip().startswith("Blender")

    def warn(self, message: str) -> None:
        """Record a warning; after a hundred, only record that there are more."""
        if len(self._warnings) < _MOST_WARNINGS or message in self._warnings:
            self._warnings.setdefault(message)
        else:
            self._warnings.setdefault("further warnings are omitted")

    def fail(self, code: ReasonCode, message: str) -> AssetError:
        """Return an error about this file."""
        return AssetError(code, message, self.path)

    def library(self, kind: str, tag: str) -> Iterator[Element]:
        """Yield the elements of all libraries of a kind, such as `library_nodes`."""
        for library in self.tree.iterfind(kind):
            yield from library.iterfind(tag)

    def by_id(self, name: str) -> Element | None:
        """Return the element with an id, None if there is none."""
        return self._by_id.get(name)

    def find(self, url: str, *tags: str) -> Element | None:
        """Return the element that a URL refers to; None if it is in another document, missing, or has another tag."""
        place, name = _split(url)
        if place and not self._is_own(place):
            return None
        element = self._by_id.get(name)
        if element is None:
            element = self._by_id.get(unquote(name))
        return element if element is not None and element.tag in tags else None

    def need(self, url: str, where: str, *tags: str) -> Element:
        """Return the element that a URL refers to, as `find` does.

        Raises:
            AssetError: invalid_scene_graph if it does not exist; uri_outside_asset or unsupported_extension if the URL
                refers to another document.
        """
        place, _ = _split(url)
        if place and not self._is_own(place):
            raise self._elsewhere(place, url, where)
        element = self.find(url, *tags)
        if element is None:
            message = f"{where} refers to {url[:80]!r}, which is not a <{'> or <'.join(tags)}> in the file"
            raise self.fail(ReasonCode.INVALID_SCENE_GRAPH, message)
        return element

    def _is_own(self, place: str) -> bool:
        return unquote(place).replace("\\", "/").rpartition("/")[2] == self.path.name

    def _elsewhere(self, place: str, url: str, where: str) -> AssetError:
        """Return the error for a URL that refers to another document, without accessing that document."""
        target = os.path.normpath(self.path.parent / re.sub(r"^file:(//[^/]*)?", "", unquote(place)))
        if ":" in place[:8] or not Path(target).is_relative_to(os.path.normpath(self.root)):
            message = f"{where} refers to {path_end(url)!r} outside the asset's folder: merge it into this file"
            return self.fail(ReasonCode.URI_OUTSIDE_ASSET, message)
        problem = "in another document, which is not supported"
        message = f"{where} refers to {path_end(url)!r} {problem}: merge it into this file"
        return self.fail(ReasonCode.UNSUPPORTED_EXTENSION, message)

    def _parse(self) -> Element:
        size = self.path.stat().st_size
        if size > self.limits.json_bytes:
            message = f"the document has {size:,} bytes, more than the limit of {self.limits.json_bytes:,}"
            raise self.fail(ReasonCode.OUT_OF_MEMORY, message)
        try:
            data, encoding = _supported(self.path.read_bytes())
            self._check_prolog(data, encoding)
            tags = data.count(b"<")
            if tags > _MOST_TAGS:
                message = f"the document has {tags:,} tags, more than the limit of {_MOST_TAGS:,}"
                raise self.fail(ReasonCode.OUT_OF_MEMORY, message)
            parser = XMLParser(encoding=encoding)
            parser.feed(data)
            tree: Element = parser.close()
        except (ParseError, UnicodeError, LookupError, ValueError) as error:
            message = f"is not well-formed XML: the file is truncated or corrupt ({reason(error, 120)})"
            raise self.fail(ReasonCode.CORRUPT_FILE, message) from error
        return tree

    def _check_prolog(self, data: bytes, encoding: str | None) -> None:
        """Check the prolog, the only part of a document that can declare entities."""
        names: list[str] = []

        def start(name: str, _attributes: dict[str, str]) -> None:
            names.append(name.rpartition(":")[2])
            raise _RootFoundError

        def doctype(*_declaration: object) -> None:
            raise self.fail(
                ReasonCode.NOT_GLTF, "has a document type declaration, which is not accepted: remove <!DOCTYPE>"
            )

        parser = expat.ParserCreate(encoding)
        parser.StartElementHandler, parser.StartDoctypeDeclHandler = start, doctype
        try:
            parser.Parse(data[:_PROLOG_BYTES], False)
        except _RootFoundError:
            pass
        except expat.ExpatError as error:
            message = f"is not a COLLADA file: its suffix may be wrong ({reason(error, 120)})"
            raise self.fail(ReasonCode.NOT_GLTF, message) from error
        if names != ["COLLADA"]:
            found = f"the root element is <{names[0][:40]}>" if names else "it has no root element"
            raise self.fail(ReasonCode.NOT_GLTF, f"is not a COLLADA file: {found}")


class _RootFoundError(Exception):
    """Ends the parsing of the prolog."""


def _split(url: str) -> tuple[str, str]:
    """Return the document and the id of a URL; some exporters write `box` instead of `#box`."""
    place, mark, name = url.strip().rpartition("#")
    return (place, name) if mark else ("", url.strip())


def _supported(data: bytes) -> tuple[bytes, str | None]:
    """Return a document in an encoding that expat reads, and the name of the encoding if it is not what it declares."""
    declared = _ENCODING.match(data)
    name = declared[1].decode("ascii").lower() if declared else ""
    if name not in _MULTIBYTE:
        return data, None
    return data.decode(name).encode("utf-8"), "utf-8"
