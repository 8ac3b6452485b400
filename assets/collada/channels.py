"""Resolves the targets of animation channels: node transforms, morph weights, and visibility.

A target is the id of an element, a path of sids below it, and a selection: `.X`, `.ANGLE`, `(i)`, or `(column)(row)` of
a matrix (COLLADA 1.4.1, section "Address Syntax").
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from xml.etree.ElementTree import Element

import numpy as np

from helix4d.assets.collada.curves import Curve, read_curve
from helix4d.assets.collada.document import Document
from helix4d.assets.collada.transforms import MEMBERS, SIZES
from helix4d.core import AssetError, ReasonCode
from helix4d.core.arrays import Int64Array

_TARGET = re.compile(r"(?P<path>[^()]*?)(?:\.(?P<member>[^./()]+)|(?P<index>(?:\(\s*\d{1,9}\s*\)){1,2}))?")
ARRAYS = ("source", "float_array")
"""Elements through which channels animate morph weights."""
_UNSEEN = frozenset({"camera", "light", "optics", "perspective", "orthographic"})
"""Elements that move nothing visible."""


@dataclass(frozen=True, eq=False)
class Channel:
    """An animation of some values of an element.

    Attributes:
        element: a transform element, `<visibility>`, or the `<source>` or array of the weights of a morph.
        places: (C,) int64 indices of its values; None for all.
        curve: the curve that sets the values, or the error if its keys are invalid.
        animation: the `<animation>` that contains it, to which clips refer.
    """

    element: Element
    places: Int64Array | None
    curve: Curve | AssetError
    animation: Element


def read_channels(document: Document) -> list[Channel]:
    """Read the channels of all animations; targets that are not supported cause a warning."""
    found = []
    for animation in document.tree.iter("animation"):
        for element in animation.iterfind("channel"):
            channel = _read_channel(document, element, animation)
            if channel is not None:
                found.append(channel)
    return found


def _read_channel(document: Document, element: Element, animation: Element) -> Channel | None:
    target = element.get("target", "").strip()
    match = _TARGET.fullmatch(target)
    path = match["path"] if match else target
    found = _addressed(document, path)
    if found is None and match is not None and match["member"]:  # an id or sid with a dot in it
        found, match = _addressed(document, target), None
    where = f"<channel> {target[:80]!r}"
    if found is None:
        document.warn(f"{where}: its target does not exist: ignored")
        return None
    if found.tag not in (*SIZES, *ARRAYS, "visibility"):
        if not _unseen(document, path, found):
            document.warn(f"{where}: animating <{found.tag[:40]}> is not supported: ignored")
        return None
    places = None
    try:
        if match is not None and (match["member"] or match["index"]):
            places = _places(found, match, where, document)
        curve = _curve(document, element, found, places, where)
    except AssetError as error:
        return Channel(found, places, error, animation)
    return None if curve is None else Channel(found, places, curve, animation)


def _curve(
    document: Document, channel: Element, element: Element, places: Int64Array | None, where: str
) -> Curve | None:
    curve = read_curve(document, document.need(channel.get("source", ""), where, "sampler"))
    if curve is None:
        return None
    width = curve.values.shape[1]
    expected = SIZES.get(element.tag, 1 if element.tag == "visibility" else width) if places is None else len(places)
    if width != expected:
        message = f"{where}: its keys have {width} values, but <{element.tag}> needs {expected}"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    return curve.of_matrices() if element.tag == "matrix" and places is None else curve


def _places(element: Element, match: re.Match[str], where: str, document: Document) -> Int64Array:
    """Return the indices of the values of an element that a target selects."""
    if match["member"]:
        members = MEMBERS.get(element.tag, ())
        name = match["member"].upper()
        if name not in members:
            message = f"{where}: <{element.tag}> has no member {name[:20]!r}"
            raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
        return np.array([members.index(name)])
    numbers = [int(found) for found in re.findall(r"\d+", match["index"])]
    size = SIZES.get(element.tag)
    if len(numbers) == 2:
        if element.tag != "matrix" or max(numbers) > 3:
            message = f"{where}: {match['index']} selects no number of <{element.tag}>"
            raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
        return np.array([numbers[0] + 4 * numbers[1]])
    if size is not None and numbers[0] >= size:
        message = f"{where}: {match['index']} selects no number of <{element.tag}>"
        raise document.fail(ReasonCode.INVALID_ACCESSOR, message)
    return np.array(numbers)


def _addressed(document: Document, path: str) -> Element | None:
    """Return the element with a path of an id and sids."""
    first, *sids = path.strip().split("/")
    found = document.by_id(first)
    for sid in sids:
        if found is None:
            return None
        found = next((below for below in _breadth_first(found) if below.get("sid") == sid), None)
    return found


def _breadth_first(element: Element) -> Iterator[Element]:
    """Yield the elements below an element, the nearest first."""
    level = list(element)
    while level:
        yield from level
        level = [child for parent in level for child in parent]


def _unseen(document: Document, path: str, element: Element) -> bool:
    owner = document.by_id(path.split("/")[0])
    return owner is not None and (owner.tag in _UNSEEN or element.tag in _UNSEEN)
