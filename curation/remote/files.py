"""What is known of a file behind a URL before a byte of it is here."""

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
        url: `https://`, `hf://` or whatever fsspec opens.
        size: bytes; -1 where nobody said.
        sha256: hex digest of its bytes; "" where nobody said.
        version: what tells one content of this URL from another (an ETag, a commit); "" where nothing does.
    """

    url: str
    size: int = -1
    sha256: str = ""
    version: str = ""

    @property
    def name(self) -> str:
        """The last part of the URL's path, safe as a file's name."""
        last = PurePosixPath(unquote(urlsplit(self.url).path)).name
        safe = re.sub(r"[^\w.\-]", "_", last).encode()[-_NAME_BYTES:].decode(errors="ignore")
        return safe.lstrip(".") or "file"

    @property
    def suffix(self) -> str:
        """`.glb`, in lower case."""
        return PurePosixPath(self.name).suffix.lower()

    @property
    def is_pinned(self) -> bool:
        """Whether another content would have another identity."""
        return bool(self.sha256 or self.version)

    def to_json(self) -> dict[str, Any]:
        """The values as JSON."""
        return asdict(self)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> RemoteFile:
        """The inverse of `to_json`."""
        return cls(**values)
