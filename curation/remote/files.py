"""Describes a file behind a URL before it is downloaded."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import PurePosixPath
from typing import Any
from urllib.parse import unquote, urlsplit

_NAME_BYTES = 100


@dataclass(frozen=True)
class RemoteFile:
    """A file behind a URL.

    Attributes:
        url: `https://`, `hf://` or any URL that fsspec can open.
        size: bytes; -1 if unknown.
        sha256: hex digest of the content; "" if unknown.
        version: identifier of the content behind the URL (an ETag, a commit); "" if unknown.
    """

    url: str
    size: int = -1
    sha256: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """Last part of the URL's path, made safe for use as a file name."""
        last = PurePosixPath(unquote(urlsplit(self.url).path)).name
        safe = re.sub(r"[^\w.\-]", "_", last).encode()[-_NAME_BYTES:].decode(errors="ignore")
        return safe.lstrip(".") or "file"

    @property
    def suffix(self) -> str:
        """File name extension in lower case, such as `.glb`."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def is_pinned(self) -> bool:
        """Whether a change of the content would be detected."""
        return bool(self.sha256 or self.version)

    def to_json(self) -> dict[str, Any]:
        """Return the values as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RemoteFile:
        """Invert `to_json`."""
        return cls(**values)
