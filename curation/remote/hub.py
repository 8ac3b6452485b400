"""The model hub's protocol: revisions, file trees with the hashes of large files, addresses of files.

Files are named `hf://datasets/OWNER/NAME@COMMIT/PATH`, as fsspec does; the host comes in when they are fetched, from
HF_ENDPOINT as in huggingface_hub, so a plan made with one mirror goes on with another.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import quote, unquote, urljoin, urlsplit, urlunsplit

from helix4d.core import ConfigError
from helix4d.curation.remote.files import RemoteFile
from helix4d.curation.remote.web import UnreachableError, Web

_PAGE_BYTES = 64 << 20
_KINDS = ("datasets", "spaces")
_SHA256 = re.compile(r"[0-9a-f]{64}")


@dataclass(frozen=True)
class HubRepository:
    """A repository at a revision.

    Attributes:
        kind: datasets, spaces or models.
        name: OWNER/NAME.
        revision: a branch, tag or commit.
    """

    kind: str
    name: str
    revision: str = "main"

    def url(self, path: str) -> str:
        """`hf://datasets/OWNER/NAME@REVISION/PATH`."""
        kind = "" if self.kind == "models" else f"{self.kind}/"
        return f"hf://{kind}{self.name}@{quote(self.revision, safe='')}/{quote(path)}"


@dataclass(frozen=True)
class HubFile:
    """An entry of a tree: path in the repository, bytes, and the sha256 where the hub knows it (large files)."""

    path: str
    size: int
    sha256: str


def parse_hub_url(url: str) -> tuple[HubRepository, str]:
    """The repository and the path in it.

    Raises:
        ConfigError: if it is no such URL.
    """
    parts = url.removeprefix("hf://").split("/")
    kind = parts.pop(0) if parts[0] in _KINDS else "models"
    if not url.startswith("hf://") or len(parts) < 2 or not parts[0] or not parts[1]:
        raise ConfigError(f"{url}: expected hf://datasets/OWNER/NAME@REVISION/PATH")
    name, _, revision = parts[1].partition("@")
    return HubRepository(kind, f"{parts[0]}/{name}", unquote(revision) or "main"), unquote("/".join(parts[2:]))


def endpoint() -> str:
    """Address of the hub."""
    return os.environ.get("HF_ENDPOINT", "https://huggingface.co").rstrip("/")


def web_address(url: str) -> str:
    """`https://HUB/datasets/OWNER/NAME/resolve/REVISION/PATH` for `hf://...`; other URLs as they are."""
    if not url.startswith("hf://"):
        return url
    repository, path = parse_hub_url(url)
    kind = "" if repository.kind == "models" else f"{repository.kind}/"
    return f"{endpoint()}/{kind}{repository.name}/resolve/{quote(repository.revision, safe='')}/{quote(path)}"


def hub_headers(address: str) -> dict[str, str]:
    """The user's HF_TOKEN, for the hub and nobody else."""
    token = os.environ.get("HF_TOKEN")
    return {"Authorization": f"Bearer {token}"} if token and address.startswith(f"{endpoint()}/") else {}


class Hub:
    """Questions to the hub."""

    def __init__(self, web: Web) -> None:
        self._web = web

    def pin(self, repository: HubRepository) -> HubRepository:
        """The repository at the commit that its revision means now.

        Raises:
            UnreachableError: if the hub does not answer, or has no such repository or revision.
        """
        revision = quote(repository.revision, safe="")
        answer, _ = self._json(f"{endpoint()}/api/{repository.kind}/{repository.name}/revision/{revision}")
        commit = answer.get("sha") if isinstance(answer, dict) else None
        if not isinstance(commit, str) or not commit:
            raise UnreachableError(f"{repository.name}: the hub names no commit for {repository.revision}")
        return replace(repository, revision=commit)

    def tree(self, repository: HubRepository, folder: str = "", recursive: bool = False) -> Iterator[HubFile]:
        """Files of a folder.

        Raises:
            UnreachableError: if the hub does not answer, or there is no such folder.
        """
        revision = quote(repository.revision, safe="")
        path = f"/{quote(folder.strip('/'))}" if folder.strip("/") else ""
        page: str | None = (
            f"{endpoint()}/api/{repository.kind}/{repository.name}/tree/{revision}{path}"
            f"?recursive={'true' if recursive else 'false'}&expand=false"
        )
        while page:
            entries, following = self._json(page)
            if not isinstance(entries, list):
                raise UnreachableError(f"{page}: not a list of files")
            for entry in entries:
                if entry.get("type") == "file":
                    lfs = entry.get("lfs") or {}
                    digest = str(lfs.get("oid") or lfs.get("sha256") or "")
                    size = int(lfs.get("size", entry.get("size", -1)))
                    yield HubFile(str(entry["path"]), size, digest if _SHA256.fullmatch(digest) else "")
            # A mirror may repeat the links of the hub itself.
            page = _at_endpoint(urljoin(page, following)) if following else None

    def _json(self, url: str) -> tuple[Any, str | None]:
        data, response = self._web.read_page(url, _PAGE_BYTES, hub_headers(url))
        try:
            return json.loads(data), response.links.get("next", {}).get("url")
        except ValueError as error:
            raise UnreachableError(f"{url}: not JSON ({error})") from error


def remote_file(repository: HubRepository, file: HubFile) -> RemoteFile:
    """A file of a pinned repository, to be fetched."""
    return RemoteFile(repository.url(file.path), file.size, file.sha256, repository.revision)


def _at_endpoint(url: str) -> str:
    there, parts = urlsplit(endpoint()), urlsplit(url)
    return urlunsplit((there.scheme, there.netloc, parts.path, parts.query, ""))
