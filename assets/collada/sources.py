"""Reads the numbers and names of a document: texts, arrays, and the sources that accessors make of them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.document import Document
from helix4d.core import ReasonCode
from helix4d.core.arrays import Float64Array, Int64Array

_NOT_A_NUMBER = re.compile(r"[-+]?1\.#\w+")
"""How Microsoft's C library prints NaN and infinity."""
_DECIMAL_COMMA = re.compile(r"(?<=\d),(?=\d)")
"""Exporters that use the locale of the system write decimal commas."""
_NAMES = ("Name_array", "IDREF_array", "SIDREF_array", "token_array")
_NUMBERS = ("float_array", "int_array")


@dataclass(frozen=True, eq=False)
class Input:
    """An `<input>` of a primitive: semantic, source, offset of its index, and set."""

    semantic: str
    source: Element
    offset: int
    set: int


def floats(document: Document, element: Element, where: str) -> Float64Array:
    """Return the (N,) float64 numbers in the text of an element.

    Raises:
        AssetError: corrupt_file if it contains anything else.
    """
    text = element.text or ""
    try:
        return _split(text)
    except ValueError:
        pass
    try:
        found = _split(_DECIMAL_COMMA.sub(".", _NOT_A_NUMBER.sub("nan", text)))
    except ValueError as error:
        message = f"{where}: <{element.tag}> contains a value that is not a number"
        raise document.fail(ReasonCode.CORRUPT_FILE, message) from error
    if "," in text:
        document.warn("numbers have decimal commas, which COLLADA does not allow: read as decimal points")
    return found


def ints(document: Document, element: Element, where: str) -> Int64Array:
    """Return the (N,) int64 numbers in the text of an element.

    Raises:
        AssetError: corrupt_file if it contains anything else.
    """
    found = floats(document, element, where)
    if not (np.abs(found) < 2**53).all():  # false for NaN as well
        raise document.fail(ReasonCode.CORRUPT_FILE, f"{where}: <{element.tag}> contains numbers that are not indices")
    return found.astype(np.int64)


def fixed(document: Document, element: Element, count: int, where: str) -> Float64Array:
    """Return the (count,) finite numbers of an element.

    Raises:
        AssetError: corrupt_file if there are fewer or more; non_finite_geometry.
    """
    found = floats(document, element, where)
    if len(found) != count:
        message = f"{where}: <{element.tag}> must contain {count} numbers, found {len(found):,}"
        raise document.fail(ReasonCode.CORRUPT_FILE, message)
    if not np.isfinite(found).all():
        raise document.fail(ReasonCode.NON_FINITE_GEOMETRY, f"{where}: <{element.tag}> contains NaN or infinity")
    return found


def number(element: Element, name: str, default: int, most: int = 1 << 53) -> int:
    """Return an attribute as an integer from 0 to `most`; the default if it is missing or anything else."""
    text = (element.get(name) or "").strip()
    return min(int(text), most) if text.isascii() and text.isdigit() and len(text) < 18 else default


def source_numbers(document: Document, source: Element) -> Float64Array:
    """Return the (N, C) float64 values of a source; read-only, as every use shares them.

    Raises:
        AssetError: invalid_accessor if its accessor exceeds its array; corrupt_file if it has none.
    """
    if id(source) not in document.arrays:
        found = _source_numbers(document, source)
        found.flags.writeable = False
        document.arrays[id(source)] = found
    return document.arrays[id(source)]


def _source_numbers(document: Document, source: Element) -> Float64Array:
    where = named(source)
    accessor, array = _accessor(document, source, _NUMBERS)
    values = floats(document, array, where)
    count, stride = number(accessor, "count", 0), max(number(accessor, "stride", 1), 1)
    start, columns = number(accessor, "offset", 0), _columns(accessor, stride)
    needed = start + (count - 1) * stride + columns[-1] + 1
    if count and needed > len(values):
        message = f"{where}: its accessor needs {needed:,} numbers, but the array has {len(values):,}"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    return np.asarray(values[start + stride * np.arange(count)[:, None] + np.array(columns)])


def source_names(document: Document, source: Element) -> list[str]:
    """Return the names in a source of names or references.

    Raises:
        AssetError: corrupt_file if it has no such array.
    """
    accessor, array = _accessor(document, source, _NAMES)
    names = (array.text or "").split()
    return names[number(accessor, "offset", 0) :][: number(accessor, "count", len(names))]


def holds_references(source: Element) -> bool:
    """Return whether a source of names contains ids of elements instead of sids."""
    return source.find("IDREF_array") is not None


def inputs(document: Document, parent: Element, where: str) -> list[Input]:
    """Return the inputs of an element; those of `<vertices>` have the offset of the input that refers to it.

    Raises:
        AssetError: invalid_scene_graph if a source does not exist.
    """
    own: list[Input] = []
    shared: list[Input] = []
    for element in parent.iterfind("input"):
        offset, group = number(element, "offset", 0, 1000), number(element, "set", 0)
        source = document.need(element.get("source", ""), where, "source", "vertices")
        if source.tag == "source":
            own.append(Input(element.get("semantic", ""), source, offset, group))
            continue
        for inner in source.iterfind("input"):
            found = document.need(inner.get("source", ""), where, "source")
            shared.append(Input(inner.get("semantic", ""), found, offset, number(inner, "set", 0)))
    given = {(entry.semantic, entry.set) for entry in own}
    return [entry for entry in shared if (entry.semantic, entry.set) not in given] + own


def named(element: Element) -> str:
    """Return how messages name an element."""
    return f"<{element.tag}> {(element.get('id') or element.get('name') or element.get('sid') or '')[:80]!r}"


def _accessor(document: Document, source: Element, tags: tuple[str, ...]) -> tuple[Element, Element]:
    accessor = source.find("technique_common/accessor")
    array = next((found for tag in tags if (found := source.find(tag)) is not None), None)
    if accessor is not None:
        named_array = document.find(accessor.get("source", ""), *tags)
        array = named_array if named_array is not None else array
    if accessor is None or array is None:
        what = "numbers" if tags == _NUMBERS else "names"
        raise document.fail(ReasonCode.CORRUPT_FILE, f"{named(source)}: has no accessor for an array of {what}")
    return accessor, array


def _columns(accessor: Element, stride: int) -> list[int]:
    """Return the indices of the values of an element; unnamed parameters are skipped, unless all are unnamed."""
    params = accessor.findall("param")[:stride]
    columns: list[int] = []
    width = 0
    has_names = any(param.get("name") for param in params)
    for param in params:
        size = 16 if param.get("type") == "float4x4" else 1
        if param.get("name") or not has_names:
            columns += range(width, width + size)
        width += size
    return [column for column in columns if column < stride] or list(range(min(stride, 16)))


def _split(text: str) -> Float64Array:
    text = text.strip()  # numpy finds a number in a text of spaces
    return np.fromstring(text, np.float64, sep=" ") if text else np.zeros(0)
