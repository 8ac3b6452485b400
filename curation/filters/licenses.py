"""Parses license texts: Creative Commons by name, code, URL or in prose. Everything else is unknown.

The parser is conservative: the conditions of several licenses in one text add up, a ban on commercial use or on
derivatives counts wherever it appears, and a license that is neither Creative Commons nor public domain is unknown.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Any

from helix4d.core import ConfigError


@dataclass(frozen=True)
class License:
    """Conditions of a Creative Commons license.

    Attributes:
        by: attribution.
        sa: share alike.
        nc: no commercial use.
        nd: no derivatives.
        public_domain: no conditions (CC0, public domain mark).
    """

    by: bool = False
    sa: bool = False
    nc: bool = False
    nd: bool = False
    public_domain: bool = False

    def __post_init__(self) -> None:
        if self.public_domain == (self.by or self.sa or self.nc or self.nd):
            raise ValueError("a license must have at least one condition, or be public domain and have none")

    @property
    def name(self) -> str:
        """`cc0`, or the conditions in Creative Commons' order: `by`, `by-sa`, `by-nc`, `by-nc-nd`, ..."""
        if self.public_domain:
            return "cc0"
        return "-".join(demand for demand in ("by", "nc", "nd", "sa") if getattr(self, demand))


def parse_license(text: str) -> License | None:
    """Return the license that a text names, or None if it names none that is known."""
    text = _plain(text)
    if _REFUSED.search(text):
        return None
    found = {code for url in _URL.findall(text) for code in _codes_of_url(url)}
    rest = _URL.sub(" ", text)
    words = [piece for word in _WORD.findall(_joined(rest)) for piece in _pieces(word)]
    codes = {word: _CODES[word] for word in words if word in _CODES}
    if all(word in codes or word in _FILLER or word[0].isdigit() for word in words):
        # A ban alone ("no commercial use") is not a license.
        found.update(codes.values() if codes.keys() - _SPELLED_BANS else ())
    else:
        found.update(_codes_in_prose(words))
    found.discard("cc")
    if not found:
        return None
    # A ban that is spelled out counts anywhere in the text.
    found.update(codes[word] for word in codes.keys() & _SPELLED_BANS)
    if found == {"cc0"}:
        return License(public_domain=True)
    return License(**{demand: demand in found for demand in _DEMANDS})


def asset_license(extras: Mapping[str, Any], metadata: Mapping[str, Any] = MappingProxyType({})) -> License | None:
    """Return the license of an asset, from its own metadata and from that of its source. None if unknown.

    Each states it in a `license` field of any shape, else in `copyright`. If only one of them states a license, that
    one counts. If both do, their conditions add up, and if one is unknown, so is the result. A copyright that only
    names a person is ignored if the source states a license.

    Args:
        extras: metadata of the file (`asset.extras`).
        metadata: metadata of the source: a manifest's row or a collection's entry.
    """
    texts = [text for text in (_text(extras), _text(metadata)) if text]
    if len(texts) == 2 and not _text(extras, _LICENSE_FIELDS) and not _REFUSED.search(_plain(texts[0])):
        texts = [text for text in texts if text is not texts[0] or parse_license(text)]
    found = [parse_license(text) for text in texts]
    known = [license for license in found if license is not None]  # noqa: A001 (the natural name)
    if not found or len(known) < len(found):
        return None
    demands = {demand: any(getattr(one, demand) for one in known) for demand in _DEMANDS}
    return License(**demands) if any(demands.values()) else License(public_domain=True)


def license_text(extras: Mapping[str, Any], metadata: Mapping[str, Any] = MappingProxyType({})) -> str:
    """Return the text that `asset_license` parses; "" if neither the file nor the source states anything."""
    texts = [text for text in (_text(extras), _text(metadata)) if text]
    return " | ".join(dict.fromkeys(texts))


def _text(extras: Mapping[str, Any], *fields: frozenset[str]) -> str:
    for names in fields or (_LICENSE_FIELDS, _COPYRIGHT_FIELDS):
        found = [value for name, value in extras.items() if str(name).lower() in names]
        if text := "; ".join(dict.fromkeys(word for value in found for word in _strings(value))):
            return text
    return ""


def parse_license_list(text: str) -> frozenset[str]:
    """Parse a list such as `cc0,by,by-sa`, in any spelling, to the names of the licenses.

    Raises:
        ConfigError: if an entry is not a known license.
    """
    names = set()
    for entry in filter(None, (part.strip() for part in text.split(","))):
        license = parse_license(entry)  # noqa: A001 (the natural name)
        if license is None:
            raise ConfigError(
                f"--licenses: {entry!r} is not a Creative Commons license: use cc0, by, by-sa, by-nc, by-nd, "
                "by-nc-sa or by-nc-nd"
            )
        names.add(license.name)
    return frozenset(names)


_LICENSE_FIELDS = frozenset({"license", "licence", "licenses", "licences", "license_url", "licenseurl", "rights"})
_COPYRIGHT_FIELDS = frozenset({"copyright"})
_SPDX = re.compile(r"(?:https?://)?spdx\.org/licenses/([a-z0-9.-]+?)(?:\.html|\.json)?(?=\s|$)")
_URL = re.compile(
    r"(?:https?://)?(?:www\.)?creativecommons\.org/(?:licenses|licences|publicdomain|share-your-work)/\S*"
)
_OTHER_URL = re.compile(r"(?:https?://|www\.)\S+")
_WORD = re.compile(r"[a-z]+[0-9]*|[0-9][0-9.]*")
_REFUSED = re.compile(
    r"all rights reserved|\beditorial\b|\bproprietary\b|redistribution-prohibited|\bnot\b[^.;]{0,20}public.domain"
)
_SPELLED_BANS = frozenset({"noncommercial", "noderivs"})
_DEMANDS = ("by", "nc", "nd", "sa")

_CODES = {
    "cc": "cc",
    "creativecommons": "cc",
    "cc0": "cc0",
    "cczero": "cc0",
    "publicdomain": "cc0",
    "pdm": "cc0",
    "pd": "cc0",
    "by": "by",
    "attribution": "by",
    "nc": "nc",
    "noncommercial": "nc",
    "nd": "nd",
    "noderivs": "nd",
    "sa": "sa",
    "sharealike": "sa",
}
"""Words, after `_joined`, and their license codes; "cc" only marks the others as license codes."""

_FILLER = frozenset(
    ["a", "and", "any", "deed", "dedication", "generic", "igo", "international", "intl", "is", "it", "its", "licence"]
    + ["licenced", "license", "licensed", "mark", "model", "only", "or", "ported", "publicly", "the", "this", "under"]
    + ["universal", "unported", "use", "uses", "v", "ver", "version", "with", "work", "works"]
)
"""Words without meaning in a text that consists of license words otherwise."""

_SAME = (
    (r"\bcreative[\s_-]*commons?\b", " creativecommons "),
    (r"\bcc[\s-]*(?:zero|0)(?!\d|\.\d)", " cc0 "),
    (r"\bno[\s-]*rights[\s-]*reserved\b", " cc0 "),
    (r"\bv(?:er(?:sion)?)?[\s.]*(?=\d)", " "),
    (r"public[\s-]*domain", " publicdomain "),
    (r"non?[\s-]*commerc?ial(?:ly)?", " noncommercial "),
    (r"\b(?:no|not|never|cannot|without)\b[^.;]{0,40}\bcommercial(?:ly)?\b", " noncommercial "),
    (r"\bpersonal[\s-]+(?:use[\s-]+)?only\b", " noncommercial "),
    (r"\bno[nt]?[\s-]*deriv[a-z]*(?:[\s-]*works?\b)?", " noderivs "),
    (r"no[nt]?deriv(?:ative|ate|e)?s?(?:works?)?", " noderivs "),
    (
        r"\b(?:no|not|never|cannot|without)\b[^.;]{0,40}\b(?:modif[a-z]+|remix[a-z]*|adapt[a-z]*|derivatives?)\b",
        " noderivs ",
    ),
    (r"share[\s-]*a?like", " sharealike "),
    (r"attributions?(?:[\s-]+required)?", " attribution "),
    (r"\bby(?=-(?:nc|nd|sa)\b)", " cc by "),
)
"""Spelling -> normalized word; applied in this order to lower-case text."""

_GLUED = re.compile(r"(cc)?(by)?((?:nc|nd|sa)*)([0-9.]*)")


def _plain(text: str) -> str:
    """Normalize a text: lower case, hyphens for dashes and underscores, plain for compatibility characters."""
    text = unicodedata.normalize("NFKC", text).lower()
    return re.sub(r"[‐‑‒–—―−_]", "-", text)


def _joined(text: str) -> str:
    text = _OTHER_URL.sub(" ", _SPDX.sub(r"\1", text))
    for spelling, word in _SAME:
        text = re.sub(spelling, word, text)
    return text


def _pieces(word: str) -> list[str]:
    """Split `ccbyncnd4` into cc, by, nc, nd, 4; other words stay whole."""
    glued = _GLUED.fullmatch(word)
    if word in _CODES or glued is None or not (glued[1] or glued[2]):
        return [word]
    codes = [glued[3][start : start + 2] for start in range(0, len(glued[3]), 2)]
    return [piece for piece in (glued[1], glued[2], *codes, glued[4]) if piece]


def _codes_of_url(url: str) -> set[str]:
    path = url.split("creativecommons.org/", 1)[1]
    kind, _, rest = path.partition("/")
    if kind == "publicdomain" or "cc0" in rest or "public-domain" in rest:
        return {"cc0"}
    codes = set(rest.split("/")[0].split("-"))
    return codes if codes <= {"by", "sa", "nc", "nd"} else set()


def _codes_in_prose(words: list[str]) -> set[str]:
    """Find codes in runs of license words that start unambiguously: `made by` is not a license."""
    found: set[str] = set()
    run = False
    for number, word in enumerate(words):
        code = _CODES.get(word)
        following = words[number + 1] if number + 1 < len(words) else ""
        continues = _CODES.get(following) in _DEMANDS or following[:1].isdigit()
        if code in ("cc", "cc0"):
            found.add(code)
            run = code == "cc"
        elif word == "attribution" and continues:
            found.add("by")
            run = True
        elif word == "by" and run and words[number - 1] == "creativecommons" and following and not continues:
            run = False  # "Creative Commons by Jane" names a person
        elif run and code is not None:
            found.add(code)
        elif not word[0].isdigit() and word not in ("license", "licence", "licensed", "the"):
            run = False
    return found


def _strings(value: Any) -> Iterable[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _strings(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _strings(entry)
