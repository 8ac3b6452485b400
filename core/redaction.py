"""Hides the secrets of URLs: user info and query strings, which carry passwords, tokens and signatures.

Everything that is shown, recorded or published passes through here. The URLs that a run needs to resume are kept in a
separate file (`curation/plan/plan_file.py`).
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

HIDDEN = "***"
_URL = re.compile(r"[A-Za-z][A-Za-z0-9+.\-]*://[^\s\"'<>`]*[^\s\"'<>`.,:;)\]]")
_USER = re.compile(r"^([A-Za-z][A-Za-z0-9+.\-]*://)[^/?#@]*@")
_QUERY = re.compile(r"\?[^#]+")


def redact_url(url: str) -> str:
    """Return a URL without its user info and query: `https://***@host/a.glb?***`. Unchanged if it has neither."""
    return _QUERY.sub(f"?{HIDDEN}", _USER.sub(rf"\1{HIDDEN}@", url), count=1)


def redact(text: str) -> str:
    """Return a text in which every URL is redacted."""
    return _URL.sub(lambda match: redact_url(match[0]), text) if "://" in text else text


def redact_values(value: Any) -> Any:
    """Return a JSON value with the URLs in all strings redacted, including those in keys."""
    if isinstance(value, str):
        return redact(value)
    if isinstance(value, Mapping):
        return {redact(str(name)): redact_values(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [redact_values(entry) for entry in value]
    return value
